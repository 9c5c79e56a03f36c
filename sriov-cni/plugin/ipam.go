package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// leases is an IPAM plugin's answer, or the failure to get one.
type leases struct {
	result *types100.Result
	err    error
}

// startIPAM runs an IPAM plugin's ADD beside the rest of ours: it may take long,
// and neither needs the other's result. The channel always gets one answer; it
// is nil without a plugin.
func startIPAM(ctx context.Context, r request) <-chan leases {
	if r.conf.IPAM.Type == "" {
		return nil
	}
	answer := make(chan leases, 1)
	go func() {
		result, err := addIPAM(ctx, r.conf.IPAM.Type, r.stdin)
		answer <- leases{result, err}
	}()
	return answer
}

func addIPAM(ctx context.Context, plugin string, stdin []byte) (*types100.Result, error) {
	answer, err := invoke.DelegateAdd(ctx, plugin, stdin, nil)
	if err != nil {
		return nil, ipamError("ADD", plugin, err)
	}
	result, err := types100.NewResultFromResult(answer)
	if err != nil {
		return nil, &failure{Code: codeIPAM, Err: fmt.Errorf("failed to set up IPAM plugin type %q: %w", plugin, err)}
	}
	if len(result.IPs) == 0 {
		return nil, &failure{Code: codeIPAM, Err: fmt.Errorf("IPAM plugin %q returned missing IP config", plugin),
			Hint: "the IPAM plugin answered without an address; see its configuration"}
	}
	for _, ip := range result.IPs {
		ip.Interface = types100.Int(0)
	}
	return result, nil
}

// ipamError keeps the code that the IPAM plugin gave.
func ipamError(command, plugin string, err error) error {
	text := fmt.Sprintf("IPAM plugin %q: %s", plugin, command)
	if command == "ADD" {
		text = fmt.Sprintf("failed to set up IPAM plugin type %q", plugin)
	}
	f := &failure{Code: codeIPAM, Err: fmt.Errorf("%s: %w", text, err)}
	if e := (*types.Error)(nil); errors.As(err, &e) {
		f.Code, f.Hint = e.Code, e.Details
	}
	return f
}

// delIPAM has the IPAM plugin release what the attachment has, if anything. The
// environment of a GC call names no attachment, so it is composed.
func delIPAM(ctx context.Context, plugin string, stdin []byte, a attachment, netns string) error {
	if plugin == "" {
		return nil
	}
	path, err := invoke.FindInPath(plugin, filepath.SplitList(os.Getenv("CNI_PATH")))
	if err == nil {
		err = invoke.ExecPluginWithoutResult(ctx, path, stdin, &invoke.Args{
			Command: "DEL", ContainerID: a.ContainerID, IfName: a.IfName, NetNS: netns,
			PluginArgsStr: os.Getenv("CNI_ARGS"), Path: os.Getenv("CNI_PATH"),
		}, nil)
	}
	if err != nil {
		return ipamError("DEL", plugin, err)
	}
	return nil
}
