package plugin

import (
	"bytes"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types020 "github.com/containernetworking/cni/pkg/types/020"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// answer is what ADD prints: its result in the configuration's version.
func (t *transfer) answer(r request, leased *types100.Result) ([]byte, error) {
	result, err := inVersion(r.conf.CNIVersion, t.result(r, leased))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = result.PrintTo(&b)
	return b.Bytes(), err
}

// inVersion is the result as a version of the specification has it. Before
// 0.3.0 a result was its addresses; without any, only the version is left.
func inVersion(v string, result *types100.Result) (types.Result, error) {
	if (v == "" || v == "0.1.0" || v == "0.2.0") && len(result.IPs) == 0 {
		return &types020.Result{CNIVersion: v, DNS: result.DNS}, nil
	}
	return result.GetAsVersion(v)
}

// mac is the address that the VF has in the pod; nil if nothing tells.
func (t *transfer) mac(r request) net.HardwareAddr {
	switch {
	case r.MAC != nil:
		return r.MAC
	case t.link != nil:
		return t.link.MAC
	case slices.ContainsFunc(t.journal.Before.MAC, func(b byte) bool { return b != 0 }):
		return t.journal.Before.MAC
	}
	return nil
}

// mtu is the one that the VF has in the pod or, without an interface, its PF's;
// 0 if nothing tells.
func (t *transfer) mtu(r request) int {
	switch {
	case r.MTU != 0:
		return r.MTU
	case t.link != nil:
		return t.link.MTU
	case t.device.PF == nil:
		return 0
	}
	b, err := readFile(t.p.path("sys/class/net/" + t.device.PF.Name + "/mtu"))
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b))) // 0 if it is no number
	return n
}

// result is what ADD reports. pciID came with version 1.1.0 of the
// specification; mtu, which came with it too, has long been reported under
// 1.0.0, and older versions drop it.
func (t *transfer) result(r request, leased *types100.Result) *types100.Result {
	i := &types100.Interface{
		Name: t.journal.Owner.IfName, Sandbox: t.journal.NetNS.Path, Mac: t.mac(r).String(), Mtu: t.mtu(r),
	}
	if r.conf.CNIVersion == "1.1.0" {
		i.PciID = r.Device.String()
	}
	out := &types100.Result{CNIVersion: types100.ImplementedSpecVersion, Interfaces: []*types100.Interface{i}, DNS: r.conf.DNS}
	if leased != nil {
		out.IPs, out.Routes = leased.IPs, leased.Routes
		if !leased.DNS.IsEmpty() {
			out.DNS = leased.DNS
		}
	}
	return out
}
