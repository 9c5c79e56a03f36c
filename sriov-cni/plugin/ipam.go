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

// addIPAM has the network's IPAM plugin lease addresses. The result is nil
// without a plugin.
func addIPAM(ctx context.Context, r request) (*types100.Result, error) {
	plugin := r.conf.IPAM.Type
	if plugin == "" {
		return nil, nil
	}
	answer, err := invoke.DelegateAdd(ctx, plugin, r.stdin, nil)
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

// startDelIPAM runs delIPAM beside what the caller goes on to do. The channel
// gets one answer, always.
func startDelIPAM(ctx context.Context, plugin string, stdin []byte, a attachment, netns string) <-chan error {
	done := make(chan error, 1)
	if plugin == "" {
		done <- nil
		return done
	}
	go func() { done <- delIPAM(ctx, plugin, stdin, a, netns) }()
	return done
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
