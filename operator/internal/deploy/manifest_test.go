package deploy

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// The device plugin's own manifest and the DaemonSet made here describe one thing: what the
// one is allowed, sees of the node, and is limited to, so is the other.
func TestDevicePluginAsInItsOwnManifest(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../../device-plugin/deploy/daemonset.yaml")
	require.NoError(t, err)
	var theirs appsv1.DaemonSet
	for doc := range bytes.SplitSeq(content, []byte("\n---\n")) {
		if bytes.Contains(doc, []byte("kind: DaemonSet\n")) && bytes.Contains(doc, []byte("name: sriovdp\n")) {
			require.NoError(t, yaml.UnmarshalStrict(doc, &theirs))
		}
	}
	require.NotEmpty(t, theirs.Name)
	ours := DevicePlugin(Options{Namespace: "n", ResourcePrefix: "p", MetricsPort: 9809}, Images{DevicePlugin: "i"},
		&v1.SriovOperatorConfigSpec{FeatureGates: map[string]bool{GateMetrics: true}})
	a, b := theirs.Spec.Template.Spec, ours.Spec.Template.Spec
	require.Equal(t, a.HostNetwork, b.HostNetwork)
	require.Equal(t, a.HostPID, b.HostPID)
	require.Equal(t, a.AutomountServiceAccountToken, b.AutomountServiceAccountToken)
	require.Equal(t, a.PriorityClassName, b.PriorityClassName)
	require.Equal(t, a.Tolerations, b.Tolerations)
	c, d := a.Containers[0], b.Containers[0]
	require.Equal(t, c.SecurityContext, d.SecurityContext)
	require.True(t, c.Resources.Requests.Cpu().Equal(*d.Resources.Requests.Cpu()))
	require.True(t, c.Resources.Limits.Memory().Equal(*d.Resources.Limits.Memory()))
	require.Equal(t, c.TerminationMessagePolicy, d.TerminationMessagePolicy)
	require.Equal(t, c.LivenessProbe.HTTPGet.Path, d.LivenessProbe.HTTPGet.Path)
	require.Equal(t, c.ReadinessProbe.HTTPGet.Path, d.ReadinessProbe.HTTPGet.Path)
	mounts := func(s corev1.PodSpec, name string) (out []string) {
		volumes := map[string]string{}
		for _, v := range s.Volumes {
			if v.HostPath != nil {
				volumes[v.Name] = v.HostPath.Path
			}
		}
		for _, m := range s.Containers[0].VolumeMounts {
			if m.Name == "config" { // a file of the node's daemon here, a ConfigMap there
				require.True(t, m.ReadOnly, name)
				continue
			}
			mode := " rw"
			if m.ReadOnly {
				mode = " ro"
			}
			out = append(out, volumes[m.Name]+" at "+m.MountPath+mode)
		}
		return out
	}
	require.ElementsMatch(t, mounts(a, "theirs"), mounts(b, "ours"))
	require.Contains(t, d.Args, "--dev-root=/host")
}

// Nothing mounts the whole host, and what moved on the host is found where it is.
func TestHostPaths(t *testing.T) {
	t.Parallel()
	o := Options{Namespace: "n", CNIBinDir: "/var/lib/cni/bin", Host: HostPaths{Kubelet: "/var/lib/k0s/kubelet", State: "/var/lib/sriov"}}
	img := Images{Daemon: "d", DevicePlugin: "p", CNI: map[string]string{"sriov": "s"}}
	daemon, plugin := Daemon(o, img, &v1.SriovOperatorConfigSpec{}), DevicePlugin(o, img, &v1.SriovOperatorConfigSpec{})
	paths := map[string]string{}
	for _, ds := range []*appsv1.DaemonSet{daemon, plugin} {
		for _, v := range ds.Spec.Template.Spec.Volumes {
			if v.HostPath == nil {
				continue
			}
			require.NotEqual(t, "/", v.HostPath.Path)
			require.NotContains(t, v.HostPath.Path, "/var/lib/kubelet")
			require.False(t, strings.HasPrefix(v.HostPath.Path, "/etc/sriov-operator"), v.HostPath.Path)
			paths[v.Name] = v.HostPath.Path
		}
	}
	require.Equal(t, "/var/lib/k0s/kubelet/device-plugins", paths["device-plugins"])
	require.Equal(t, "/var/lib/sriov", paths["state"])
	require.Equal(t, "/var/lib/sriov/device-plugin", paths["config"])
	require.Equal(t, "/var/lib/cni/bin", paths["cni-bin"])
	require.Contains(t, daemon.Spec.Template.Spec.Containers[0].Env, corev1.EnvVar{Name: "KUBELET_ROOT_DIR", Value: "/var/lib/k0s/kubelet"})
	for _, c := range daemon.Spec.Template.Spec.InitContainers {
		require.Nil(t, c.SecurityContext.Privileged)
		require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
		for _, m := range c.VolumeMounts {
			require.Contains(t, []string{"tools", "cni-bin"}, m.Name)
		}
	}
}
