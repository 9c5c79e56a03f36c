// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"bytes"
	"net"

	"github.com/containernetworking/cni/pkg/types"
	types020 "github.com/containernetworking/cni/pkg/types/020"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/sriovkit/sriovkit/libsriov/value"
)

// Answer returns the result of ADD as JSON, in the configuration's cniVersion.
func (t *Transfer) Answer(leased *types100.Result) ([]byte, error) {
	result, err := inVersion(t.request.Conf.CNIVersion, t.result(leased))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = result.PrintTo(&b)
	return b.Bytes(), err
}

// inVersion converts the result to a version of the specification. Before 0.3.0 a result
// has addresses only, and the conversion fails without any; such a result has just the
// version and DNS.
func inVersion(v string, result *types100.Result) (types.Result, error) {
	if (v == "" || v == "0.1.0" || v == "0.2.0") && len(result.IPs) == 0 {
		return &types020.Result{CNIVersion: v, DNS: result.DNS}, nil
	}
	return result.GetAsVersion(v)
}

// mac returns the address that the VF has in the pod; nil if it is not known.
func (t *Transfer) mac() net.HardwareAddr {
	switch {
	case t.request.MAC != nil:
		return t.request.MAC
	case t.opened != nil:
		return t.opened
	case t.link != nil:
		return t.link.MAC
	case !value.NoMAC(t.Journal.Before.MAC):
		return t.Journal.Before.MAC
	}
	return nil
}

// result returns the result of ADD. pciID is set from version 1.1.0 of the specification
// on, which introduced it. mtu came with 1.1.0, too, but upstream's plugin reports it
// under 1.0.0 as well; conversion to older versions drops it.
func (t *Transfer) result(leased *types100.Result) *types100.Result {
	i := &types100.Interface{
		Name: t.Journal.Owner.IfName, Sandbox: t.Journal.NetNS.Path, Mac: t.mac().String(), Mtu: t.mtu,
	}
	if t.request.Conf.CNIVersion == "1.1.0" {
		i.PciID = t.request.Device.String()
	}
	out := &types100.Result{CNIVersion: types100.ImplementedSpecVersion, Interfaces: []*types100.Interface{i}, DNS: t.request.Conf.DNS}
	if leased != nil {
		out.IPs, out.Routes = leased.IPs, leased.Routes
		if !leased.DNS.IsEmpty() {
			out.DNS = leased.DNS
		}
	}
	return out
}
