// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	gocni "github.com/containerd/go-cni"
	"github.com/cri-o/ocicni/pkg/ocicni"
	"github.com/stretchr/testify/require"
)

const podNamespace = "default"

// pod is one pod sandbox.
type pod struct{ id, netns, networks string }

// annotations are never none: the kubelet adds its own.
func (p pod) annotations() map[string]string {
	all := map[string]string{"kubernetes.io/config.source": "api"}
	if p.networks != "" {
		all["k8s.v1.cni.cncf.io/networks"] = p.networks
	}
	return all
}

// runtime is a container runtime's part that calls plugins.
type runtime interface {
	// load reads the configuration directory, as runtimes do when it has changed.
	load(t *testing.T)
	setUp(t *testing.T, p pod) error
	tearDown(t *testing.T, p pod) error
	// collect is CNI GC with the pods that live. Containerd has none.
	collect(t *testing.T, living []pod) error
}

// containerd has one configuration, the first of the directory, and remembers none.
type containerd struct{ cni gocni.CNI }

func newContainerd(t *testing.T, dir string) *containerd {
	t.Helper()
	cni, err := gocni.New(gocni.WithMinNetworkCount(1), gocni.WithPluginMaxConfNum(1), gocni.WithInterfacePrefix("eth"),
		gocni.WithPluginConfDir(filepath.Join(dir, "net.d")), gocni.WithPluginDir([]string{filepath.Join(dir, "bin")}))
	require.NoError(t, err)
	return &containerd{cni}
}

func (r *containerd) load(t *testing.T) {
	t.Helper()
	require.NoError(t, r.cni.Load(gocni.WithDefaultConf))
}

func (r *containerd) options(p pod) []gocni.NamespaceOpts {
	return []gocni.NamespaceOpts{
		gocni.WithLabels(map[string]string{
			"IgnoreUnknown": "1", "K8S_POD_NAMESPACE": podNamespace, "K8S_POD_NAME": p.id,
			"K8S_POD_INFRA_CONTAINER_ID": p.id, "K8S_POD_UID": "uid-" + p.id,
		}),
		gocni.WithCapability("io.kubernetes.cri.pod-annotations", p.annotations()),
	}
}

func (r *containerd) setUp(t *testing.T, p pod) error {
	t.Helper()
	result, err := r.cni.Setup(t.Context(), p.id, p.netns, r.options(p)...)
	if err == nil && result.Interfaces["eth0"] == nil {
		return errors.New("no eth0 in the result")
	}
	return err
}

func (r *containerd) tearDown(t *testing.T, p pod) error {
	t.Helper()
	return r.cni.Remove(t.Context(), p.id, p.netns, r.options(p)...)
}

func (*containerd) collect(*testing.T, []pod) error { return nil }

// crio has all configurations of the directory, runs GC for each, and takes a pod's own
// out of libcni's cache when it goes.
type crio struct {
	dir string
	cni ocicni.CNIPlugin
}

// load starts anew: a CRI-O that watches the directory reads the same, only later.
func (r *crio) load(t *testing.T) {
	t.Helper()
	var err error
	// Its cache is above the state directory of multus-shim, as on a node (/var/lib/cni).
	r.cni, err = ocicni.InitCNINoInotify("", filepath.Join(r.dir, "net.d"), r.dir, filepath.Join(r.dir, "bin"))
	require.NoError(t, err)
}

func (r *crio) network(p pod) ocicni.PodNetwork {
	annotations := p.annotations()
	return ocicni.PodNetwork{
		Name: p.id, Namespace: podNamespace, ID: p.id, UID: "uid-" + p.id, NetNS: p.netns,
		RuntimeConfig: map[string]ocicni.RuntimeConfig{r.cni.GetDefaultNetworkName(): {PodAnnotations: &annotations}},
	}
}

func (r *crio) setUp(t *testing.T, p pod) error {
	t.Helper()
	_, err := r.cni.SetUpPodWithContext(t.Context(), r.network(p))
	return err
}

func (r *crio) tearDown(t *testing.T, p pod) error {
	t.Helper()
	return r.cni.TearDownPodWithContext(t.Context(), r.network(p))
}

func (r *crio) collect(t *testing.T, living []pod) error {
	t.Helper()
	var networks []*ocicni.PodNetwork
	for _, p := range living {
		n := r.network(p)
		networks = append(networks, &n)
	}
	return r.cni.GC(t.Context(), networks)
}

// runtimes are both.
var runtimes = map[string]struct {
	scheme string // of container IDs
	make   func(*testing.T, string) runtime
	left   []string // state of a pod that outlived multus-shim: the runtime does not ask it any more
	asks   []string // networks whose plugins its GC reaches through multus-shim, with a pod from before
}{
	"containerd": {
		scheme: "containerd",
		make:   func(t *testing.T, dir string) runtime { t.Helper(); return newContainerd(t, dir) },
		left:   []string{"last.json", "other-last-eth0"},
	},
	"CRI-O": {
		scheme: "cri-o",
		make:   func(_ *testing.T, dir string) runtime { return &crio{dir: dir} },
		asks:   []string{"primary"},
	},
}

func names() []string { return slices.Sorted(maps.Keys(runtimes)) }
