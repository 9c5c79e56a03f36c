// SPDX-License-Identifier: GPL-2.0
/*
 * sriov_quirks makes SR-IOV NICs of the igb family answer as the drivers of other
 * NICs do, so that software above the kernel can be tried on them: a VF that refuses
 * its address, a PF that resets a VF, settings that are missing, or present, or only
 * claimed.
 *
 * It replaces members of the net_device_ops of PFs and VFs. Everything is off until a
 * parameter in /sys/module/sriov_quirks/parameters is set, and takes effect at once.
 * Which values stand for which driver is said in libsriov/sriovtest/quirk.
 *
 * Every replaced function is called with RTNL held, and so is all of the state below.
 */
#include <linux/delay.h>
#include <linux/etherdevice.h>
#include <linux/if_link.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/pci.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/workqueue.h>

enum setting { MAC, VLAN, QOS, AD, SPOOFCHK, TRUST, MAX_RATE, MIN_RATE, STATE, RSS, ATTRIBUTES };

static const char *const attribute_names[ATTRIBUTES] = {
	"mac", "vlan", "qos", "802.1ad", "spoofchk", "trust", "max_rate", "min_rate", "state", "rss",
};

/* A parameter that is a set of attributes, written as their names with commas. */
static int set_attributes(const char *text, const struct kernel_param *kp)
{
	char *copy = kstrdup(text, GFP_KERNEL), *rest = copy, *word;
	unsigned int set = 0;
	int i, err = 0;

	if (!copy)
		return -ENOMEM;
	while ((word = strsep(&rest, ", \n"))) {
		if (!*word)
			continue;
		i = match_string(attribute_names, ATTRIBUTES, word);
		if (i < 0) {
			err = -EINVAL;
			break;
		}
		set |= BIT(i);
	}
	if (!err)
		WRITE_ONCE(*(unsigned int *)kp->arg, set);
	kfree(copy);
	return err;
}

static int get_attributes(char *buffer, const struct kernel_param *kp)
{
	unsigned int set = *(unsigned int *)kp->arg;
	int i, n = 0;

	for (i = 0; i < ATTRIBUTES; i++)
		if (set & BIT(i))
			n += sysfs_emit_at(buffer, n, "%s%s", n ? "," : "", attribute_names[i]);
	return n + sysfs_emit_at(buffer, n, "\n");
}

static const struct kernel_param_ops attributes_ops = { .set = set_attributes, .get = get_attributes };

#define SET_OF_ATTRIBUTES(name, text)                                                               \
	static unsigned int name;                                                                    \
	module_param_cb(name, &attributes_ops, &name, 0644);                                         \
	MODULE_PARM_DESC(name, text)
#define NUMBER(name, value, text)                                                                   \
	static int name = value;                                                                     \
	module_param(name, int, 0644);                                                               \
	MODULE_PARM_DESC(name, text)

static char only[512];
module_param_string(only, only, sizeof(only), 0644);
MODULE_PARM_DESC(only, "PCI addresses of the VFs, or of the PFs with all VFs, that this is about; empty is all");

NUMBER(vf_mac_errno, 0, "error of a VF that is asked to change the address its PF has set, unless it is trusted; 0 is the driver's own answer");
NUMBER(vf_mac_refuse_same, 0, "1: it refuses the very address its PF has set as well");
NUMBER(vf_busy_errno, 0, "error of a VF in reset that is asked to change its address or to open; 0 is none");
NUMBER(vf_reset_ms, 0, "how long a VF is in reset after a change that resets it");
NUMBER(pf_reset_ms, 0, "how long its PF is busy with that");
SET_OF_ATTRIBUTES(pf_resets, "attributes whose change resets the VF: mac, vlan, trust, state");
NUMBER(pf_reset_same_mac, 0, "1: setting the address it has resets the VF as well");
NUMBER(pf_wait_ms, 0, "how long a request to a busy PF waits");
NUMBER(pf_busy_errno, 0, "error of a request after that; 0 is none");
NUMBER(pf_report_wait_ms, 0, "how long the report of a VF waits for a busy PF");
NUMBER(pf_report_errno, 0, "error of the report after that, which leaves the VF out of the list; 0 is none");
NUMBER(pf_push_ms, -1, "when the VF's interface shows an address that its PF has set, after the end of the reset; -1 is never");
NUMBER(pf_zero_mac_errno, 0, "error of a PF that is told to set the address zero; 0 is the driver's own answer");
SET_OF_ATTRIBUTES(pf_lacks, "attributes that the PF does not support");
SET_OF_ATTRIBUTES(pf_adds, "attributes of 802.1ad, min_rate, state, rss that the PF supports, as far as one can see in its report");
SET_OF_ATTRIBUTES(pf_ignores, "attributes that the PF accepts and does not set");
SET_OF_ATTRIBUTES(pf_enforces, "spoofchk: drop what a VF sends from a foreign address while its check is on, which the emulated 82576 does not");
SET_OF_ATTRIBUTES(pf_pretends, "attributes that the PF accepts, does not set, and reports as set");
SET_OF_ATTRIBUTES(pf_keeps, "attributes of vlan, spoofchk, trust, max_rate that the PF does not take back, and accepts that it should");

static int resetting;
module_param(resetting, int, 0444);
MODULE_PARM_DESC(resetting, "1: something that a reset or a change on a PF leads to is still to come");

struct vf {
	bool fresh;			/* its spoof check was not set since it was made */
	bool mac_by_pf;
	u8 mac[ETH_ALEN];		/* which the PF has set, or the trusted VF since */
	bool pf_busy, vf_busy, push, carrier;
	int push_again; /* how often more if the VF's driver fails */
	unsigned long pf_ready, vf_ready, push_at; /* in jiffies */
	unsigned int overlay;		/* attributes reported from shown */
	struct ifla_vf_info shown;
};

/* A PF or VF whose functions are replaced. */
struct port {
	struct list_head list;
	struct rcu_head rcu;
	struct net_device *dev;
	struct pci_dev *pdev;
	const struct net_device_ops *real;
	struct net_device_ops ops;
	bool spoofchk;			/* of a VF: its check is on */
	int num_vfs;
	struct vf vf[];
};

static LIST_HEAD(ports);

static struct port *port_of(struct net_device *dev)
{
	struct port *p;

	list_for_each_entry(p, &ports, list)
		if (p->dev == dev)
			return p;
	return NULL; /* cannot be: it is where the caller was called from */
}

static struct port *port_at(struct pci_dev *pdev)
{
	struct port *p;

	list_for_each_entry(p, &ports, list)
		if (p->pdev == pdev)
			return p;
	return NULL;
}

/* The interface of VF i, if it has a driver whose functions are replaced. */
static struct port *port_of_vf(struct port *pf, int i)
{
	struct port *p;

	list_for_each_entry(p, &ports, list)
		if (p->pdev->is_virtfn && pci_physfn(p->pdev) == pf->pdev && pci_iov_vf_id(p->pdev) == i)
			return p;
	return NULL;
}

/* Whether the parameter "only" has VF i in it. */
static bool is_meant(struct port *pf, int i)
{
	int sriov = pci_find_ext_capability(pf->pdev, PCI_EXT_CAP_ID_SRIOV);
	u16 offset = 0, stride = 0;
	char address[32];
	unsigned int id;
	bool meant;

	pci_read_config_word(pf->pdev, sriov + PCI_SRIOV_VF_OFFSET, &offset);
	pci_read_config_word(pf->pdev, sriov + PCI_SRIOV_VF_STRIDE, &stride);
	id = pci_dev_id(pf->pdev) + offset + i * stride;
	snprintf(address, sizeof(address), "%04x:%02x:%02x.%d", pci_domain_nr(pf->pdev->bus), PCI_BUS_NUM(id),
		 PCI_SLOT(id & 0xff), PCI_FUNC(id & 0xff));
	kernel_param_lock(THIS_MODULE);
	meant = strstr(only, address) || strstr(only, pci_name(pf->pdev));
	kernel_param_unlock(THIS_MODULE);
	return meant;
}

/* VF i of a PF, or NULL if nothing is different about it. */
static struct vf *quirky(struct port *pf, int i)
{
	if (i < 0 || i >= pf->num_vfs)
		return NULL;
	return !*skip_spaces(only) || is_meant(pf, i) ? &pf->vf[i] : NULL;
}

static bool trusted(struct port *pf, int i)
{
	struct ifla_vf_info ivi = { .trusted = -1 };

	return !pf->real->ndo_get_vf_config(pf->dev, i, &ivi) && ivi.trusted == 1;
}

/*
 * Has the VF's driver take the address that its PF has set, as if it had been told. It
 * has to be the driver itself: igbvf keeps a copy besides dev_addr, and from a trusted
 * VF igb takes that one at the next reset. For the time of this the VF is trusted, or
 * igb would refuse.
 */
static int take_mac(struct port *p, struct port *pf, int i)
{
	struct sockaddr address = { .sa_family = p->dev->type };
	bool was_trusted = trusted(pf, i);
	int err;

	ether_addr_copy(address.sa_data, pf->vf[i].mac);
	if (!was_trusted)
		pf->real->ndo_set_vf_trust(pf->dev, i, true);
	err = p->real->ndo_set_mac_address(p->dev, &address);
	if (!was_trusted)
		pf->real->ndo_set_vf_trust(pf->dev, i, false);
	if (!err && !ether_addr_equal(p->dev->dev_addr, pf->vf[i].mac))
		err = -EADDRNOTAVAIL;
	return err;
}

/* Ends what is due of a VF's reset. */
static bool settle(struct port *pf, int i)
{
	struct vf *vf = &pf->vf[i];
	struct port *p;

	if (vf->pf_busy && time_after_eq(jiffies, vf->pf_ready))
		vf->pf_busy = false;
	if (vf->push && time_after_eq(jiffies, vf->push_at)) {
		vf->push = false;
		p = port_of_vf(pf, i);
		/* Nobody is notified, as with those drivers. They look again and again at what the
		 * PF has set, and igbvf gives up a message that igb does not answer within 0.1 s. */
		if (p && vf->mac_by_pf && take_mac(p, pf, i) && vf->push_again) {
			vf->push_again--;
			vf->push = true;
			vf->push_at = jiffies + msecs_to_jiffies(50);
		}
	}
	if (vf->vf_busy && time_after_eq(jiffies, vf->vf_ready)) {
		vf->vf_busy = false;
		p = port_of_vf(pf, i);
		if (p && vf->carrier && netif_running(p->dev))
			netif_carrier_on(p->dev);
	}
	return vf->pf_busy || vf->vf_busy || vf->push;
}

static void settle_all(struct work_struct *work);
static DECLARE_DELAYED_WORK(settling, settle_all);

static void settle_all(struct work_struct *work)
{
	bool pending = false;
	struct port *p;
	int i;

	rtnl_lock();
	list_for_each_entry(p, &ports, list)
		for (i = 0; i < p->num_vfs; i++)
			pending |= settle(p, i);
	WRITE_ONCE(resetting, pending);
	rtnl_unlock();
	if (pending)
		schedule_delayed_work(&settling, msecs_to_jiffies(5));
}

/* Waits for a busy PF as long as its driver does. */
static int await(struct port *pf, int i, int wait_ms, int err)
{
	unsigned long until = jiffies + msecs_to_jiffies(wait_ms);

	while (settle(pf, i), pf->vf[i].pf_busy) {
		if (time_after_eq(jiffies, until))
			return -err;
		msleep(5);
	}
	return 0;
}

/* What follows when the PF has set an attribute. */
static void follow(struct port *pf, int i, enum setting a, bool changed)
{
	struct vf *vf = &pf->vf[i];
	unsigned long at = jiffies;
	struct port *p;

	if ((pf_resets & BIT(a)) && changed) {
		vf->pf_busy = pf_reset_ms > 0;
		vf->pf_ready = at + msecs_to_jiffies(pf_reset_ms);
		at += msecs_to_jiffies(max(vf_reset_ms, 0));
		p = port_of_vf(pf, i);
		if (!vf->vf_busy)
			vf->carrier = p && netif_carrier_ok(p->dev);
		if (p)
			netif_carrier_off(p->dev);
		vf->vf_busy = true;
		vf->vf_ready = at;
	} else if (a != MAC) {
		return;
	}
	if (pf_push_ms >= 0) {
		vf->push = true;
		vf->push_again = 100;
		vf->push_at = at + msecs_to_jiffies(pf_push_ms);
	}
	WRITE_ONCE(resetting, 1);
	mod_delayed_work(system_wq, &settling, 0);
}

/* The report of VF i as it would be without delay. */
static int report(struct port *pf, int i, struct ifla_vf_info *ivi)
{
	struct vf *vf = quirky(pf, i);
	int err = pf->real->ndo_get_vf_config(pf->dev, i, ivi);

	if (err || !vf)
		return err;
	/* From a trusted igbvf that resets, as for another MTU, igb takes the address that it had
	 * before. PFs whose address the VF takes over later keep theirs. */
	if (vf->mac_by_pf && pf_push_ms >= 0)
		ether_addr_copy(ivi->mac, vf->mac);
	if (vf->overlay & BIT(MAC))
		ether_addr_copy(ivi->mac, vf->shown.mac);
	if (vf->overlay & BIT(VLAN))
		ivi->vlan = vf->shown.vlan;
	if (vf->overlay & BIT(QOS))
		ivi->qos = vf->shown.qos;
	if (vf->overlay & BIT(AD))
		ivi->vlan_proto = vf->shown.vlan_proto;
	if (vf->overlay & BIT(SPOOFCHK))
		ivi->spoofchk = vf->shown.spoofchk;
	if (vf->overlay & BIT(TRUST))
		ivi->trusted = vf->shown.trusted;
	if (vf->overlay & BIT(MAX_RATE))
		ivi->max_tx_rate = vf->shown.max_tx_rate;
	if (vf->overlay & BIT(MIN_RATE))
		ivi->min_tx_rate = vf->shown.min_tx_rate;
	if (vf->overlay & BIT(STATE))
		ivi->linkstate = vf->shown.linkstate;
	if (pf_adds & BIT(RSS))
		ivi->rss_query_en = vf->overlay & BIT(RSS) ? vf->shown.rss_query_en : 0;
	if (pf_lacks & BIT(SPOOFCHK))
		ivi->spoofchk = -1;
	if (pf_lacks & BIT(TRUST))
		ivi->trusted = -1;
	return 0;
}

/*
 * Begins a request to a PF. It returns the VF, or NULL where the driver is to answer
 * alone, or the error to answer with.
 */
static struct vf *request(struct port *pf, int i, enum setting a)
{
	struct vf *vf = quirky(pf, i);
	int err;

	if (!vf)
		return NULL;
	if (pf_lacks & BIT(a))
		return ERR_PTR(-EOPNOTSUPP);
	err = await(pf, i, pf_wait_ms, pf_busy_errno);
	return err ? ERR_PTR(err) : vf;
}

/*
 * Whether an attribute is accepted and not set. The caller has put its value into
 * vf->shown, from where it is reported if the PF is to pretend, or if it only adds the
 * attribute.
 */
static bool dropped(struct vf *vf, enum setting a)
{
	bool shown = (pf_pretends | pf_adds) & BIT(a);

	vf->overlay = shown ? vf->overlay | BIT(a) : vf->overlay & ~BIT(a);
	return shown || (pf_ignores & BIT(a));
}

/* Whether an attribute that is to be taken back stays. */
static bool kept(struct vf *vf, enum setting a, bool on)
{
	return vf && !on && (pf_keeps & BIT(a));
}

static int pf_get_vf_config(struct net_device *dev, int i, struct ifla_vf_info *ivi)
{
	struct port *pf = port_of(dev);
	int err = 0;

	if (pf_report_errno && quirky(pf, i))
		err = await(pf, i, pf_report_wait_ms, pf_report_errno);
	return err ?: report(pf, i, ivi);
}

static int pf_set_vf_mac(struct net_device *dev, int i, u8 *mac)
{
	struct port *pf = port_of(dev);
	struct vf *vf = request(pf, i, MAC);
	bool changed;
	int err;

	if (IS_ERR(vf))
		return PTR_ERR(vf);
	if (!vf)
		return pf->real->ndo_set_vf_mac(dev, i, mac);
	if (pf_zero_mac_errno && is_zero_ether_addr(mac))
		return -pf_zero_mac_errno;
	ether_addr_copy(vf->shown.mac, mac);
	if (dropped(vf, MAC))
		return 0;
	err = pf->real->ndo_set_vf_mac(dev, i, mac);
	if (err)
		return err;
	changed = pf_reset_same_mac || vf->mac_by_pf == is_zero_ether_addr(mac) || !ether_addr_equal(vf->mac, mac);
	vf->mac_by_pf = !is_zero_ether_addr(mac);
	ether_addr_copy(vf->mac, mac);
	follow(pf, i, MAC, changed);
	return 0;
}

static int pf_set_vf_vlan(struct net_device *dev, int i, u16 vlan, u8 qos, __be16 proto)
{
	struct port *pf = port_of(dev);
	struct vf *vf = request(pf, i, VLAN);
	struct ifla_vf_info before = { .vlan_proto = htons(ETH_P_8021Q) };
	int err;

	if (IS_ERR(vf))
		return PTR_ERR(vf);
	if (!vf)
		return pf->real->ndo_set_vf_vlan(dev, i, vlan, qos, proto);
	if (kept(vf, VLAN, vlan))
		return 0;
	err = report(pf, i, &before);
	if (err)
		return err;
	vf->shown.vlan = vlan;
	vf->shown.qos = qos;
	vf->shown.vlan_proto = proto;
	if (dropped(vf, QOS))
		qos = 0;
	if (proto == htons(ETH_P_8021AD)) {
		if (dropped(vf, AD))
			proto = htons(ETH_P_8021Q);
	} else {
		vf->overlay &= ~BIT(AD);
	}
	if (dropped(vf, VLAN))
		return 0;
	err = pf->real->ndo_set_vf_vlan(dev, i, vlan, qos, proto);
	if (!err)
		follow(pf, i, VLAN, before.vlan != vlan || before.qos != vf->shown.qos || before.vlan_proto != vf->shown.vlan_proto);
	return err;
}

static int pf_set_vf_spoofchk(struct net_device *dev, int i, bool on)
{
	struct port *pf = port_of(dev), *p;
	struct vf *vf = request(pf, i, SPOOFCHK);
	int err;

	if (IS_ERR(vf))
		return PTR_ERR(vf);
	if (kept(vf, SPOOFCHK, on))
		return 0;
	if (vf) {
		vf->shown.spoofchk = on;
		if (dropped(vf, SPOOFCHK))
			return 0;
	}
	err = pf->real->ndo_set_vf_spoofchk(dev, i, on);
	if (!err && i >= 0 && i < pf->num_vfs)
		pf->vf[i].fresh = false;
	p = port_of_vf(pf, i);
	if (!err && p)
		WRITE_ONCE(p->spoofchk, on);
	return err;
}

static int pf_set_vf_trust(struct net_device *dev, int i, bool on)
{
	struct port *pf = port_of(dev);
	struct vf *vf = request(pf, i, TRUST);
	bool before;
	int err;

	if (IS_ERR(vf))
		return PTR_ERR(vf);
	if (kept(vf, TRUST, on))
		return 0;
	if (vf) {
		vf->shown.trusted = on;
		if (dropped(vf, TRUST))
			return 0;
	}
	before = trusted(pf, i);
	err = pf->real->ndo_set_vf_trust(dev, i, on);
	if (vf && !err)
		follow(pf, i, TRUST, before != on);
	return err;
}

static int pf_set_vf_rate(struct net_device *dev, int i, int min, int max)
{
	struct port *pf = port_of(dev);
	struct vf *vf = request(pf, i, max ? MAX_RATE : MIN_RATE);

	if (IS_ERR(vf))
		return PTR_ERR(vf);
	if (kept(vf, MAX_RATE, max))
		return 0;
	if (vf) {
		if (min && (pf_lacks & BIT(MIN_RATE)))
			return -EOPNOTSUPP;
		vf->shown.min_tx_rate = min;
		vf->shown.max_tx_rate = max;
		if (dropped(vf, MIN_RATE))
			min = 0;
		if (dropped(vf, MAX_RATE))
			return 0;
	}
	return pf->real->ndo_set_vf_rate(dev, i, min, max);
}

static int pf_set_vf_link_state(struct net_device *dev, int i, int state)
{
	struct port *pf = port_of(dev);
	struct vf *vf = request(pf, i, STATE);

	if (IS_ERR(vf))
		return PTR_ERR(vf);
	if (vf) {
		vf->shown.linkstate = state;
		if (dropped(vf, STATE)) {
			follow(pf, i, STATE, state != IFLA_VF_LINK_STATE_DISABLE);
			return 0;
		}
	}
	return pf->real->ndo_set_vf_link_state ? pf->real->ndo_set_vf_link_state(dev, i, state) : -EOPNOTSUPP;
}

static int pf_set_vf_rss_query_en(struct net_device *dev, int i, bool on)
{
	struct port *pf = port_of(dev);
	struct vf *vf = request(pf, i, RSS);

	if (IS_ERR(vf))
		return PTR_ERR(vf);
	if (vf) {
		vf->shown.rss_query_en = on;
		if (dropped(vf, RSS))
			return 0;
	}
	return pf->real->ndo_set_vf_rss_query_en ? pf->real->ndo_set_vf_rss_query_en(dev, i, on) : -EOPNOTSUPP;
}

/* The PF and the record of a VF, or NULL where its driver is to answer alone. */
static struct vf *vf_of(struct port *p, struct port **pf, int *i)
{
	struct vf *vf;

	*pf = port_at(pci_physfn(p->pdev));
	if (!*pf)
		return NULL;
	*i = pci_iov_vf_id(p->pdev);
	vf = quirky(*pf, *i);
	if (vf)
		settle(*pf, *i);
	return vf;
}

static int vf_set_mac(struct net_device *dev, void *address)
{
	const u8 *mac = (const u8 *)((struct sockaddr *)address)->sa_data;
	struct port *p = port_of(dev), *pf;
	struct vf *vf;
	int i, err;

	vf = vf_of(p, &pf, &i);
	if (vf && vf->vf_busy && vf_busy_errno)
		return -vf_busy_errno;
	if (vf && vf_mac_errno && vf->mac_by_pf && !trusted(pf, i)) {
		if (vf_mac_refuse_same || !ether_addr_equal(mac, vf->mac))
			return -vf_mac_errno;
		return take_mac(p, pf, i);
	}
	err = p->real->ndo_set_mac_address(dev, address);
	if (!err && vf && vf->mac_by_pf)
		ether_addr_copy(vf->mac, mac); /* its PF takes over what a trusted VF chooses */
	return err;
}

static int vf_open(struct net_device *dev)
{
	struct port *p = port_of(dev), *pf;
	struct vf *vf;
	int i;

	vf = vf_of(p, &pf, &i);
	if (vf && vf->vf_busy && vf_busy_errno)
		return -vf_busy_errno;
	return p->real->ndo_open(dev);
}

/* Called without RTNL. */
static netdev_tx_t vf_start_xmit(struct sk_buff *skb, struct net_device *dev)
{
	const struct net_device_ops *ops = READ_ONCE(dev->netdev_ops);
	struct port *p = container_of(ops, struct port, ops);

	if (ops->ndo_start_xmit != vf_start_xmit)
		return ops->ndo_start_xmit(skb, dev); /* the module is going */
	if ((READ_ONCE(pf_enforces) & BIT(SPOOFCHK)) && READ_ONCE(p->spoofchk) && skb_headlen(skb) >= ETH_HLEN &&
	    !ether_addr_equal(((struct ethhdr *)skb->data)->h_source, dev->dev_addr)) {
		dev_kfree_skb_any(skb);
		return NETDEV_TX_OK;
	}
	return p->real->ndo_start_xmit(skb, dev);
}

/* Whether the spoof check of a VF is on, which igb has it from the start; before Linux 6.6 it
 * says so only after the VF's driver has begun.
 */
static bool checks_spoof(struct pci_dev *vf)
{
	struct ifla_vf_info ivi = { .spoofchk = 1 };
	struct port *pf = port_at(pci_physfn(vf));
	int i = pci_iov_vf_id(vf);

	if (pf && i >= 0 && i < pf->num_vfs && pf->vf[i].fresh)
		return true;
	return pf && !pf->real->ndo_get_vf_config(pf->dev, pci_iov_vf_id(vf), &ivi) && ivi.spoofchk;
}

static bool is_ours(struct net_device *dev)
{
	const char *driver;

	if (!dev->dev.parent || !dev_is_pci(dev->dev.parent))
		return false;
	driver = dev_driver_string(dev->dev.parent);
	return !strcmp(driver, "igb") || !strcmp(driver, "igbvf");
}

static void attach(struct net_device *dev)
{
	struct pci_dev *pdev = to_pci_dev(dev->dev.parent);
	int n = pdev->is_virtfn ? 0 : max(pci_sriov_get_totalvfs(pdev), 0);
	struct port *p;

	list_for_each_entry(p, &ports, list)
		if (p->dev == dev)
			return; /* it has only moved to another namespace */
	p = kzalloc(struct_size(p, vf, n), GFP_KERNEL);
	if (!p)
		return;
	p->dev = dev;
	p->pdev = pdev;
	p->num_vfs = n;
	p->real = dev->netdev_ops;
	p->ops = *p->real;
	if (pdev->is_virtfn) {
		p->ops.ndo_set_mac_address = vf_set_mac;
		p->ops.ndo_open = vf_open;
		p->ops.ndo_start_xmit = vf_start_xmit;
		p->spoofchk = checks_spoof(pdev);
	} else {
		p->ops.ndo_get_vf_config = pf_get_vf_config;
		p->ops.ndo_set_vf_mac = pf_set_vf_mac;
		p->ops.ndo_set_vf_vlan = pf_set_vf_vlan;
		p->ops.ndo_set_vf_spoofchk = pf_set_vf_spoofchk;
		p->ops.ndo_set_vf_trust = pf_set_vf_trust;
		p->ops.ndo_set_vf_rate = pf_set_vf_rate;
		p->ops.ndo_set_vf_link_state = pf_set_vf_link_state;
		p->ops.ndo_set_vf_rss_query_en = pf_set_vf_rss_query_en;
	}
	list_add(&p->list, &ports);
	dev->netdev_ops = &p->ops;
}

static void detach(struct port *p)
{
	p->dev->netdev_ops = p->real;
	list_del(&p->list);
	kfree_rcu(p, rcu); /* somebody may be reading the functions without RTNL */
}

static int netdev_event(struct notifier_block *nb, unsigned long event, void *info)
{
	struct net_device *dev = netdev_notifier_info_to_dev(info);
	struct port *p, *next;

	if (event == NETDEV_REGISTER && is_ours(dev))
		attach(dev);
	/* A move to another namespace says UNREGISTER too. */
	if (event == NETDEV_UNREGISTER && dev->reg_state == NETREG_UNREGISTERING)
		list_for_each_entry_safe(p, next, &ports, list)
			if (p->dev == dev)
				detach(p);
	return NOTIFY_DONE;
}

static struct notifier_block netdev_notifier = { .notifier_call = netdev_event };

/* A VF that is made begins without anything its predecessor was told. */
static int pci_event(struct notifier_block *nb, unsigned long event, void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);
	struct port *pf;
	int i;

	if (event != BUS_NOTIFY_ADD_DEVICE || !pdev->is_virtfn)
		return NOTIFY_DONE;
	rtnl_lock();
	pf = port_at(pci_physfn(pdev));
	i = pf ? pci_iov_vf_id(pdev) : -1;
	if (pf && i >= 0 && i < pf->num_vfs) {
		memset(&pf->vf[i], 0, sizeof(pf->vf[i]));
		pf->vf[i].fresh = true;
	}
	rtnl_unlock();
	return NOTIFY_DONE;
}

static struct notifier_block pci_notifier = { .notifier_call = pci_event };

static int __init quirks_init(void)
{
	int err = bus_register_notifier(&pci_bus_type, &pci_notifier);

	if (err)
		return err;
	err = register_netdevice_notifier(&netdev_notifier);
	if (err)
		bus_unregister_notifier(&pci_bus_type, &pci_notifier);
	return err;
}

static void __exit quirks_exit(void)
{
	struct port *p, *next;

	bus_unregister_notifier(&pci_bus_type, &pci_notifier);
	unregister_netdevice_notifier(&netdev_notifier);
	rtnl_lock();
	list_for_each_entry_safe(p, next, &ports, list)
		detach(p);
	rtnl_unlock();
	cancel_delayed_work_sync(&settling);
	rcu_barrier();
}

module_init(quirks_init);
module_exit(quirks_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("SR-IOV NICs that answer as other drivers' do");
