// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/delegate"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
)

// Lease runs an IPAM plugin's ADD; it returns nil for plugin "". The interface must be
// up in the pod with its VLAN and MAC, because plugins such as dhcp send through it.
func Lease(ctx context.Context, plugin string, stdin []byte) (*types100.Result, error) {
	if plugin == "" {
		return nil, nil
	}
	result, err := delegate.Add(ctx, plugin, stdin)
	if err != nil {
		return nil, IPAMError("ADD", plugin, err)
	}
	if len(result.IPs) == 0 {
		return nil, cnierr.New(cnierr.IPAM, fmt.Errorf("IPAM plugin %q returned missing IP config", plugin),
			"the IPAM plugin answered without an address; see its configuration")
	}
	for _, ip := range result.IPs {
		ip.Interface = types100.Int(0)
	}
	return result, nil
}

// Release runs an IPAM plugin's DEL for an attachment. The attachment is passed in the
// environment, because that of a GC call does not name one.
func Release(ctx context.Context, plugin string, stdin []byte, a state.Attachment, netns string) error {
	if plugin == "" {
		return nil
	}
	_, err := delegate.Run(ctx, plugin, "DEL", stdin, "CNI_CONTAINERID="+a.ContainerID, "CNI_IFNAME="+a.IfName, "CNI_NETNS="+netns)
	return IPAMError("DEL", plugin, err)
}

// IPAMError wraps an IPAM plugin's error and keeps its code; nil for nil.
func IPAMError(command, plugin string, err error) error {
	if err == nil {
		return nil
	}
	text := fmt.Sprintf("IPAM plugin %q: %s", plugin, command)
	if command == "ADD" {
		text = fmt.Sprintf("failed to set up IPAM plugin type %q", plugin)
	}
	f := &cnierr.Error{Code: cnierr.IPAM, Err: fmt.Errorf("%s: %w", text, err)}
	if e := (*types.Error)(nil); errors.As(err, &e) && e.Code != 0 { // 0: the plugin exited without a CNI error
		f.Code, f.Hint = e.Code, e.Details
	}
	return f
}
