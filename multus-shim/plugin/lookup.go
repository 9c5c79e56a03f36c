// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/sriovkit/sriovkit/multus-shim/annotation"
	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/internal/brief"
	"github.com/sriovkit/sriovkit/multus-shim/kube"
	"github.com/sriovkit/sriovkit/multus-shim/nad"
	"github.com/sriovkit/sriovkit/multus-shim/plan"
)

// Annotations with which the kubelet marks pods that the API server did not
// give it; their mirror there has another UID.
const configSource = "kubernetes.io/config.source"

// pod is what is known about the pod.
type pod struct {
	conf.Pod
	annotations map[string]string
	object      *kube.Pod // nil until it was read from the API server
	claims      *claims   // nil until they were read
	claimed     bool      // a claim asks for a network
}

// static pods exist on the node only.
func (p *pod) static() bool {
	source := p.annotations[configSource]
	if source == "" && p.object != nil {
		source = p.object.Metadata.Annotations[configSource]
	}
	return source != "" && source != "api"
}

// annotated: the pod asks for something.
func (p *pod) annotated() bool {
	return p.annotations[annotation.Networks] != "" || p.annotations[annotation.DefaultNetwork] != "" || p.claimed
}

// lookupPod takes the annotations from the runtime when it hands them over:
// they are those the sandbox was made for. Otherwise it asks the API server.
func (c *call) lookupPod(ctx context.Context) (*pod, error) {
	p := &pod{Pod: c.pod, annotations: c.conf.Annotations}
	if p.annotations != nil || p.Name == "" || p.Namespace == "" {
		return p, nil
	}
	if err := c.readPod(ctx, p); err != nil {
		return nil, err
	}
	if p.object == nil {
		return p, nil // no API server: the configuration alone decides
	}
	p.annotations = p.object.Metadata.Annotations
	return p, nil
}

// readPod reads the pod from the API server once, if there is one.
func (c *call) readPod(ctx context.Context, p *pod) error {
	if p.object != nil {
		return nil
	}
	client, err := c.api()
	if err != nil || client == nil {
		return err
	}
	if p.object, err = client.Pod(ctx, p.Namespace, p.Name); err != nil {
		return coded(types.ErrTryAgainLater, err)
	}
	if uid := p.object.Metadata.UID; p.UID != "" && p.UID != uid && !p.static() {
		p.object = nil
		return coded(types.ErrTryAgainLater,
			fmt.Errorf("pod %s has UID %s, the sandbox is for %s: the pod was replaced", p.Pod, uid, p.UID))
	}
	return nil
}

// want is a network before its configuration is known: by selection, or with
// it when no NAD is involved.
type want struct {
	network plan.Network
	load    bool            // network.Selection names a NAD or a file
	orFile  bool            // an administrator's choice: a file of that name does as well
	claimed *claimedNetwork // the claim that asks for it and gives its device; nil if none
}

// networks returns all networks of the pod in order, the default one first.
func (c *call) networks(ctx context.Context, p *pod) ([]plan.Network, error) {
	claimed, err := c.claimedNetworks(ctx, p)
	if err != nil {
		return nil, err
	}
	p.claimed = len(claimed) > 0
	wants, err := c.wants(p, claimed)
	if err != nil {
		return nil, coded(types.ErrInvalidNetworkConfig, err)
	}
	return c.load(ctx, wants)
}

func (c *call) wants(p *pod, claimed []claimedNetwork) ([]want, error) {
	wants, err := c.defaultNetwork(p)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(c.conf.SystemNamespaces, p.Namespace) {
		for _, name := range c.conf.DefaultNetworks {
			s, err := annotation.ParseFileRef(name, c.conf.MultusNamespace)
			if err != nil {
				return nil, fmt.Errorf("defaultNetworks: %w", err)
			}
			wants = append(wants, want{network: plan.Network{Selection: s}, load: true, orFile: true})
		}
	}
	selections, err := annotation.Parse(p.annotations[annotation.Networks], p.Namespace, c.conf.Policy.MaxNetworks)
	if err != nil {
		return nil, fmt.Errorf("annotation %s: %w", annotation.Networks, err)
	}
	for _, s := range selections {
		if err := plan.Allowed(c.conf.Isolation, p.Namespace, c.conf.GlobalNamespaces, s); err != nil {
			return nil, err
		}
		wants = append(wants, want{network: plan.Network{Selection: s}, load: true})
	}
	if wants, err = c.addClaimed(wants, p, claimed); err != nil {
		return nil, err
	}
	if name := c.conf.AuxiliaryChain; name != "" {
		chain, ok, err := nad.Chain(filepath.Dir(c.conf.ClusterNetwork), name, c.conf.CNIVersion)
		if err != nil {
			return nil, fmt.Errorf("auxiliaryCNIChainName: %w", err)
		}
		if ok {
			wants = append(wants, want{network: plan.Network{Config: chain}})
		}
	}
	return wants, nil
}

// defaultNetwork is the pod's choice, or the configuration's, followed by the
// configuration's further delegates.
func (c *call) defaultNetwork(p *pod) ([]want, error) {
	var wants []want
	for i, raw := range c.conf.Delegates {
		if c.conf.ClusterNetwork != "" {
			break
		}
		config, err := nad.Parse(raw, c.conf.Name)
		if err != nil {
			return nil, fmt.Errorf("delegates, element %d: %w", i+1, err)
		}
		wants = append(wants, want{network: plan.Network{Config: config}})
	}
	switch name := c.conf.ClusterNetwork; {
	case filepath.IsAbs(name):
		config, err := c.fromPath(name)
		if err != nil {
			return nil, fmt.Errorf("clusterNetwork: %w", err)
		}
		wants = []want{{network: plan.Network{Config: config}}}
	case name != "":
		s, err := annotation.ParseFileRef(name, c.conf.MultusNamespace)
		if err != nil {
			return nil, fmt.Errorf("clusterNetwork: %w", err)
		}
		wants = []want{{network: plan.Network{Selection: s}, load: true, orFile: true}}
	}
	value := p.annotations[annotation.DefaultNetwork]
	if value == "" {
		return wants, nil
	}
	s, err := annotation.ParseOne(value, c.conf.MultusNamespace)
	if err != nil {
		return nil, fmt.Errorf("annotation %s: %w", annotation.DefaultNetwork, err)
	}
	// The namespace of multus is the annotation's own, isolated or not.
	shared := append(slices.Clone(c.conf.GlobalNamespaces), c.conf.MultusNamespace)
	if err := plan.Allowed(c.conf.Isolation, p.Namespace, shared, s); err != nil {
		return nil, fmt.Errorf("annotation %s: %w", annotation.DefaultNetwork, err)
	}
	wants[0] = want{network: plan.Network{Selection: s}, load: true}
	return wants, nil
}

// daemonRoot is where the daemon of upstream Multus mounts the host: its name for
// our binary is the same, and so is the configuration that it leaves behind.
const daemonRoot = "/host"

// fromPath reads a file of the host, also by the name that a container has for it.
func (c *call) fromPath(path string) (nad.Config, error) {
	config, err := nad.FromPath(path)
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(path, daemonRoot+"/") {
		return config, err
	}
	config, hostErr := nad.FromPath(strings.TrimPrefix(path, daemonRoot))
	if hostErr != nil {
		return config, fmt.Errorf("%w; the path is that of a container, written by the daemon of an older installation: "+
			"run multus-shim install, which writes the configuration anew", err)
	}
	c.log.Warn("clusterNetwork is the path of a container, taken without its mount", "path", path)
	return config, nil
}

// load reads the NADs, each once, and the files that they or the configuration
// name.
func (c *call) load(ctx context.Context, wants []want) ([]plan.Network, error) {
	nads, err := c.fetch(ctx, wants)
	if err != nil {
		return nil, err
	}
	var networks []plan.Network
	var errs []error
	for _, w := range wants {
		n := w.network
		if w.load {
			f := nads[n.Selection.Ref()]
			if errors.Is(f.err, errStopped) {
				continue
			}
			n, err = c.resolve(w, f)
			if w.claimed != nil {
				n.Device, n.Resource, err = w.claimed.device.ID, cmp.Or(w.claimed.device.Resource, n.Resource), w.claimed.Wrap(err)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
		}
		networks = append(networks, n)
	}
	return networks, brief.Join(errs...)
}

// fetch is one NAD that is asked for, and the answer.
type fetch struct {
	nad *kube.NAD
	err error
}

// maxRequests is how many NADs are asked for at a time.
const maxRequests = 8

// errStopped: not asked for, or not awaited, because another NAD was refused.
var errStopped = errors.New("another network was refused")

// fetch asks for the NADs of all wants. The first that cannot be had ends it: the
// ADD fails in any case, and the server has others to serve.
func (c *call) fetch(ctx context.Context, wants []want) (map[string]*fetch, error) {
	nads := map[string]*fetch{}
	client, err := c.api()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var all sync.WaitGroup
	slots := make(chan struct{}, maxRequests)
	for _, w := range wants {
		s := w.network.Selection
		if !w.load || nads[s.Ref()] != nil {
			continue
		}
		f := &fetch{}
		nads[s.Ref()] = f
		switch {
		case w.orFile && !s.IsObject():
			f.err = fmt.Errorf("network %q names no object: %w", s.Ref(), kube.ErrNotFound)
			continue
		case err != nil:
			return nil, err
		case client == nil:
			f.err = fmt.Errorf("network-attachment-definition %s: no API server is configured (kubeconfig): %w", s.Ref(), kube.ErrNotFound)
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil { // both may have been ready
			f.err = fmt.Errorf("network-attachment-definition %s: %w", s.Ref(), context.Cause(ctx))
			continue
		}
		all.Go(func() {
			f.nad, f.err = client.NAD(ctx, s.Namespace, s.Name)
			if errors.Is(context.Cause(ctx), errStopped) && f.err != nil {
				f.err = errStopped
			} else if f.err != nil && (!w.orFile || !errors.Is(f.err, kube.ErrNotFound)) {
				stop(errStopped)
			}
			<-slots
		})
	}
	all.Wait()
	return nads, nil
}

// resolve makes a network of the NAD that was asked for, or the error of one that is missing.
func (c *call) resolve(w want, f *fetch) (plan.Network, error) {
	n := w.network
	switch {
	case f.err == nil:
	case errors.Is(f.err, kube.ErrNotFound):
		if w.orFile {
			config, err := nad.FromDir(c.conf.ConfDir, n.Selection.Name)
			n.Config, n.Selection = config, annotation.Selection{Interface: n.Selection.Interface}
			return n, coded(types.ErrInvalidNetworkConfig, err)
		}
		return n, coded(types.ErrInvalidNetworkConfig, &missingNADError{n.Selection.Ref(), f.err})
	case errors.Is(f.err, kube.ErrForbidden):
		return n, coded(types.ErrInvalidNetworkConfig, f.err)
	default:
		return n, coded(types.ErrTryAgainLater, f.err)
	}
	n.NAD, n.Resource = n.Selection.Ref(), f.nad.Metadata.Annotations[kube.ResourceName]
	var err error
	if f.nad.Spec.Config != "" {
		n.Config, err = nad.Parse([]byte(f.nad.Spec.Config), n.Selection.Name)
	} else {
		n.Config, err = nad.FromDir(c.conf.ConfDir, n.Selection.Name)
	}
	if err != nil {
		return n, coded(types.ErrInvalidNetworkConfig, fmt.Errorf("network-attachment-definition %s: %w", n.NAD, err))
	}
	return n, nil
}

// missingNADError is its own type for the event that goes with it.
type missingNADError struct {
	ref string
	err error
}

func (e *missingNADError) Error() string { return e.err.Error() }
func (e *missingNADError) Unwrap() error { return e.err }
