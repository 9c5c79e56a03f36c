// SPDX-License-Identifier: Apache-2.0

package quirk

import (
	"fmt"
	"strconv"
	"syscall"
)

// Settings are parameters of the kernel module and what they are set to. Errors are
// numbers, sets of attributes are names with commas between them. The module's source,
// e2e/artifact/quirks/sriov_quirks.c, describes each.
type Settings map[string]string

// Profile is a NIC as software above the kernel sees it.
type Profile struct {
	Name       string
	Is         string // the drivers of PF and VF
	Behaviours []Behaviour
}

// Behaviour is one way in which a NIC is not like igb and igbvf.
type Behaviour struct {
	What   string
	ReadIn string // files of the kernel 6.12 below drivers/net/ethernet, and functions
	Set    Settings
}

// Plain is the name of the profile without any behaviour: igb and igbvf as they are.
const Plain = "plain"

// Profiles is every profile, plain first.
var Profiles = []Profile{
	{Name: Plain, Is: "igb, igbvf"},
	{Name: "iavf-ice", Is: "ice, iavf", Behaviours: []Behaviour{
		{
			"a VF that is not trusted refuses every address but the one its PF has set, with EACCES",
			"intel/ice/ice_virtchnl.c ice_vc_add_mac_addr, ice_can_vf_change_mac; intel/iavf/iavf_main.c iavf_set_mac",
			Settings{"vf_mac_errno": number(syscall.EACCES)},
		},
		{
			"another MAC, VLAN or trust resets the VF",
			"intel/ice/ice_sriov.c __ice_set_vf_mac, ice_set_vf_port_vlan, ice_set_vf_trust",
			Settings{"pf_resets": "mac,vlan,trust", "vf_reset_ms": "300"},
		},
		{
			"the PF waits up to 800 ms for a VF in reset, then answers EBUSY",
			"intel/ice/ice_vf_lib.c ice_check_vf_ready_for_cfg",
			Settings{"pf_reset_ms": "60", "pf_wait_ms": "800", "pf_busy_errno": number(syscall.EBUSY)},
		},
		{
			"its report waits too, then leaves the VF out",
			"intel/ice/ice_sriov.c ice_get_vf_cfg",
			Settings{"pf_report_wait_ms": "800", "pf_report_errno": number(syscall.EBUSY)},
		},
		{
			"a VF in reset answers EBUSY when it is opened, and to a MAC (which 6.12 lets wait for 2.5 s first, later kernels do not)",
			"intel/iavf/iavf_main.c iavf_open, iavf_set_mac",
			Settings{"vf_busy_errno": number(syscall.EBUSY)},
		},
		{
			"after a reset the VF's interface shows the MAC its PF has set",
			"intel/iavf/iavf_virtchnl.c iavf_virtchnl_completion (GET_VF_RESOURCES, ADD_ETH_ADDR)",
			Settings{"pf_push_ms": "0"},
		},
		{
			"link state, minimum rate and, in double VLAN mode, 802.1ad",
			"intel/ice/ice_sriov.c ice_set_vf_link_state, ice_set_vf_bw, ice_set_vf_port_vlan",
			Settings{"pf_adds": "state,min_rate,802.1ad"},
		},
	}},
	{Name: "iavf-i40e", Is: "i40e, iavf", Behaviours: []Behaviour{
		{
			"a VF that is not trusted refuses every address but the one its PF has set, with EACCES",
			"intel/i40e/i40e_virtchnl_pf.c i40e_check_vf_permission; intel/iavf/iavf_main.c iavf_set_mac",
			Settings{"vf_mac_errno": number(syscall.EACCES)},
		},
		{
			"a MAC, the same one too, another VLAN, trust or link state resets the VF",
			"intel/i40e/i40e_virtchnl_pf.c i40e_ndo_set_vf_mac, i40e_ndo_set_vf_port_vlan, i40e_ndo_set_vf_trust, i40e_ndo_set_vf_link_state",
			Settings{"pf_resets": "mac,vlan,trust,state", "pf_reset_same_mac": "1", "vf_reset_ms": "400"},
		},
		{
			"the PF waits up to 300 ms for a VF in reset, then answers EAGAIN",
			"intel/i40e/i40e_virtchnl_pf.c i40e_check_vf_init_timeout",
			Settings{"pf_reset_ms": "400", "pf_wait_ms": "300", "pf_busy_errno": number(syscall.EAGAIN)},
		},
		{
			"its report leaves out a VF in reset, without waiting",
			"intel/i40e/i40e_virtchnl_pf.c i40e_ndo_get_vf_config (EAGAIN, ENOENT)",
			Settings{"pf_report_errno": number(syscall.ENOENT)},
		},
		{
			"a VF in reset answers EBUSY when it is opened, and to a MAC (which 6.12 lets wait for 2.5 s first, later kernels do not)",
			"intel/iavf/iavf_main.c iavf_open, iavf_set_mac",
			Settings{"vf_busy_errno": number(syscall.EBUSY)},
		},
		{
			"after a reset the VF's interface shows the MAC its PF has set",
			"intel/iavf/iavf_virtchnl.c iavf_virtchnl_completion (GET_VF_RESOURCES, ADD_ETH_ADDR)",
			Settings{"pf_push_ms": "0"},
		},
		{
			"link state",
			"intel/i40e/i40e_virtchnl_pf.c i40e_ndo_set_vf_link_state",
			Settings{"pf_adds": "state"},
		},
	}},
	{Name: "ixgbevf", Is: "ixgbe, ixgbevf", Behaviours: []Behaviour{
		{
			"a VF that is not trusted refuses every address but the one its PF has set, with EPERM",
			"intel/ixgbe/ixgbe_sriov.c ixgbe_set_vf_mac_addr; intel/ixgbevf/ixgbevf_main.c ixgbevf_set_mac",
			Settings{"vf_mac_errno": number(syscall.EPERM)},
		},
		{
			"link state and RSS query (up to X540)",
			"intel/ixgbe/ixgbe_sriov.c ixgbe_ndo_set_vf_link_state, ixgbe_ndo_set_vf_rss_query_en",
			Settings{"pf_adds": "state,rss"},
		},
	}},
	{Name: "qede", Is: "qede", Behaviours: []Behaviour{
		{
			"a VF that is not trusted refuses every address once its PF has set one, that one too, with EINVAL",
			"qlogic/qede/qede_filter.c qede_set_mac_addr; qlogic/qed/qed_vf.c qed_vf_check_mac",
			Settings{"vf_mac_errno": number(syscall.EINVAL), "vf_mac_refuse_same": "1"},
		},
		{
			"without a reset, some time later, the VF's interface shows the MAC its PF has set",
			"qlogic/qed/qed_sriov.c qed_sriov_pf_set_mac; qlogic/qed/qed_vf.c qed_iov_vf_task; qlogic/qede/qede_filter.c qede_force_mac",
			Settings{"pf_push_ms": "200"},
		},
		{
			"the PF refuses the address zero, with EINVAL",
			"qlogic/qede/qede_main.c qede_set_vf_mac",
			Settings{"pf_zero_mac_errno": number(syscall.EINVAL)},
		},
		{
			"VLAN priorities are accepted and dropped",
			"qlogic/qede/qede_main.c qede_set_vf_vlan",
			Settings{"pf_ignores": "qos"},
		},
		{
			"link state and minimum rate",
			"qlogic/qed/qed_sriov.c qed_set_vf_link_state, qed_set_vf_rate",
			Settings{"pf_adds": "state,min_rate"},
		},
	}},
}

// Named returns a profile.
func Named(name string) (Profile, error) {
	var names []string
	for _, p := range Profiles {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Profile{}, fmt.Errorf("no profile is named %q, want one of %q", name, names)
}

func number(e syscall.Errno) string { return strconv.Itoa(int(e)) }
