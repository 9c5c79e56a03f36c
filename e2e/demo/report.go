// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sync/errgroup"
)

// attachment is one pod's VF: what the network-status of the pod says of it, and
// what the kernel of the node says of that VF.
type attachment struct {
	pod, ifname, mac, address string // only the first is there for vfio

	vf, pf, driver string
	index, vlan    int
}

// podList is the part of "kubectl get pods -o json" that is of interest.
type podList struct {
	Items []struct {
		Metadata struct {
			Name        string
			Annotations map[string]string
		}
	}
}

// networkStatus is an element of the annotation, as the Network Plumbing Working
// Group's multi-network specification has it.
type networkStatus struct {
	Name, Interface, MAC string
	IPs                  []string
	Default              bool
	DeviceInfo           struct {
		PCI struct {
			Address string `json:"pci-address"`
		}
	} `json:"device-info"`
}

// attachments puts together what the API server and the node know.
func (d *Demo) attachments(ctx context.Context) ([]attachment, error) {
	out, err := d.kubectl(ctx, nil, "get", "pods", "-l", "demo=sriovkit", "-o", "json")
	if err != nil {
		return nil, err
	}
	var pods podList
	if err := json.Unmarshal([]byte(out), &pods); err != nil {
		return nil, fmt.Errorf("pods: %w", err)
	}
	vfs, err := d.vfs(ctx)
	if err != nil {
		return nil, err
	}
	var all []attachment
	for _, p := range pods.Items {
		const annotation = "k8s.v1.cni.cncf.io/network-status"
		var status []networkStatus
		if err := json.Unmarshal([]byte(p.Metadata.Annotations[annotation]), &status); err != nil {
			return nil, fmt.Errorf("pod %s: annotation %s: %w", p.Metadata.Name, annotation, err)
		}
		for _, s := range status {
			if s.Default {
				continue
			}
			a, known := vfs[s.DeviceInfo.PCI.Address]
			if !known {
				return nil, fmt.Errorf("pod %s, network %s: the node has no VF %q", p.Metadata.Name, s.Name, s.DeviceInfo.PCI.Address)
			}
			a.pod = p.Metadata.Name
			if a.driver != "vfio-pci" { // else no interface bears name and MAC
				a.ifname, a.mac = s.Interface, s.MAC
			}
			if len(s.IPs) > 0 {
				a.address = s.IPs[0]
			}
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b attachment) int { return strings.Compare(a.pod, b.pod) })
	return all, nil
}

// listVFs prints a line per VF: address, PF's name, index, driver.
const listVFs = `for link in /sys/bus/pci/devices/*/virtfn*; do
	vf=$(readlink -f $link); echo "${vf##*/} $(ls ${link%/*}/net) ${link##*virtfn} $(basename $(readlink $vf/driver))"; done`

// vfs asks the node's kernel for its VFs, by PCI address.
func (d *Demo) vfs(ctx context.Context) (map[string]attachment, error) {
	var lines, links string
	if err := d.call(ctx, "Demo.Run", []string{"sh", "-ec", listVFs}, &lines); err != nil {
		return nil, err
	}
	if err := d.call(ctx, "Demo.Run", []string{"ip", "-json", "link"}, &links); err != nil {
		return nil, err
	}
	var pfs []struct {
		Name string `json:"ifname"`
		VFs  []struct {
			Index int `json:"vf"`
			VLANs []struct {
				VLAN int
			} `json:"vlan_list"`
		} `json:"vfinfo_list"`
	}
	if err := json.Unmarshal([]byte(links), &pfs); err != nil {
		return nil, fmt.Errorf("ip -json link: %w", err)
	}
	vfs := map[string]attachment{}
	for line := range strings.Lines(lines) {
		var a attachment
		if _, err := fmt.Sscan(line, &a.vf, &a.pf, &a.index, &a.driver); err != nil {
			return nil, fmt.Errorf("list of VFs, %q: %w", line, err)
		}
		for _, pf := range pfs {
			for _, vf := range pf.VFs {
				if pf.Name == a.pf && vf.Index == a.index && len(vf.VLANs) > 0 {
					a.vlan = vf.VLANs[0].VLAN
				}
			}
		}
		vfs[a.vf] = a
	}
	return vfs, nil
}

// ping is one measurement.
type ping struct {
	from, to attachment
	replies  int
	average  string // round trip in ms; empty without replies
}

const pingCount = 3

// ping tries every ordered pair of pods with addresses. It fails when a pair on
// one VLAN does not talk, or a pair on two does.
func (d *Demo) ping(ctx context.Context, all []attachment) ([]ping, error) {
	var pings []ping
	for i, from := range all {
		for _, to := range all[i+1:] {
			if from.address != "" && to.address != "" {
				pings = append(pings, ping{from: from, to: to})
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for i := range pings {
		group.Go(func() error { return d.measure(ctx, &pings[i]) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var errs []error
	for _, p := range pings {
		if same := p.from.vlan == p.to.vlan; same != (p.replies > 0) {
			errs = append(errs, fmt.Errorf("%s on VLAN %d to %s on VLAN %d: %d of %d pings answered",
				p.from.pod, p.from.vlan, p.to.pod, p.to.vlan, p.replies, pingCount))
		}
	}
	return pings, errors.Join(errs...)
}

var (
	received  = regexp.MustCompile(`(\d+) packets received`)
	roundTrip = regexp.MustCompile(`min/avg/max = [\d.]+/([\d.]+)/`)
)

func (d *Demo) measure(ctx context.Context, p *ping) error {
	out, err := d.kubectl(ctx, nil, "exec", p.from.pod, "--",
		"ping", "-c", fmt.Sprint(pingCount), "-W", "2", "-I", p.from.ifname, p.to.address)
	m := received.FindStringSubmatch(out)
	if m == nil { // ping also fails when nobody answers
		return fmt.Errorf("ping from %s: %w: %s", p.from.pod, err, out)
	}
	if _, err := fmt.Sscan(m[1], &p.replies); err != nil {
		return err
	}
	if m := roundTrip.FindStringSubmatch(out); m != nil {
		p.average = m[1]
	}
	return nil
}

func report(out io.Writer, all []attachment, pings []ping) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nPOD\tINTERFACE\tVF\tPF\tDRIVER\tVLAN\tMAC\tADDRESS")
	for _, a := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s, VF %d\t%s\t%d\t%s\t%s\n", a.pod, dash(a.ifname), a.vf, a.pf, a.index, a.driver, a.vlan, dash(a.mac), dash(a.address))
	}
	fmt.Fprintln(w, "\nPING\tVLAN\tRESULT")
	for _, p := range pings {
		result := "no answer: another VLAN"
		if p.replies > 0 {
			result = fmt.Sprintf("%d of %d, %s ms", p.replies, pingCount, p.average)
		}
		fmt.Fprintf(w, "%s -> %s\t%d -> %d\t%s\n", p.from.pod, p.to.pod, p.from.vlan, p.to.vlan, result)
	}
	w.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
