// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// The device plugin's own manifest and the DaemonSet made here describe one thing: what the
// one is allowed, sees of the node, and is limited to, so is the other.
func TestDevicePluginAsInItsOwnManifest(t *testing.T) {
	_ = os.Getenv("SRIOVKIT_SOURCES") // a file of another module, which the test cache does not see
	t.Parallel()
	theirs := manifest(t, "../../../device-plugin/deploy/daemonset.yaml", "sriovdp")
	ours := DevicePlugin(Options{Namespace: "n", ResourcePrefix: "p", MetricsPort: 9809}, Images{DevicePlugin: "i"},
		&v1.SriovOperatorConfigSpec{FeatureGates: map[string]bool{GateMetrics: true}})
	alike(t, theirs, ours)
	c, d := theirs.Spec.Template.Spec.Containers[0], ours.Spec.Template.Spec.Containers[0]
	require.Equal(t, c.LivenessProbe.HTTPGet.Path, d.LivenessProbe.HTTPGet.Path)
	require.Equal(t, c.ReadinessProbe.HTTPGet.Path, d.ReadinessProbe.HTTPGet.Path)
}

func TestDRADriverAsInItsOwnManifest(t *testing.T) {
	t.Parallel()
	theirs := manifest(t, "../../../device-plugin/deploy/dra/daemonset.yaml", "sriovdra")
	ours := DRA(Options{Namespace: "n", ResourcePrefix: "p", NodeSelector: map[string]string{"kubernetes.io/os": "linux"}}, Images{DevicePlugin: "i"}, &v1.SriovOperatorConfigSpec{})
	alike(t, theirs, ours)
	require.Equal(t, theirs.Spec.UpdateStrategy.RollingUpdate, ours.Spec.UpdateStrategy.RollingUpdate)
	c, d := theirs.Spec.Template.Spec.Containers[0], ours.Spec.Template.Spec.Containers[0]
	require.Equal(t, c.Command, d.Command)
	require.Equal(t, c.ReadinessProbe, d.ReadinessProbe)
	require.Equal(t, c.StartupProbe, d.StartupProbe)
	socket := strings.TrimPrefix(d.ReadinessProbe.Exec.Command[2], "-health-socket=")
	for _, spec := range []corev1.PodSpec{theirs.Spec.Template.Spec, ours.Spec.Template.Spec} {
		require.Contains(t, spec.Containers[0].Args, "--health-socket="+socket)
		require.Contains(t, spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "health", MountPath: filepath.Dir(socket)})
		i := slices.IndexFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == "health" })
		require.NotNil(t, spec.Volumes[i].EmptyDir, "of this pod alone")
	}
	require.Equal(t, "i", d.Image)
	var env []corev1.EnvVar
	for _, e := range d.Env {
		e.ValueFrom.FieldRef.APIVersion = "" // a default
		env = append(env, e)
	}
	require.Equal(t, c.Env, env)

	// With metrics the Service finds it, and the scheduler room for two instances.
	labels := ours.Spec.Template.Labels
	ours = DRA(Options{Namespace: "n", MetricsPort: 9809}, Images{DevicePlugin: "i"}, &v1.SriovOperatorConfigSpec{FeatureGates: map[string]bool{GateMetrics: true}})
	require.Contains(t, ours.Spec.Template.Spec.Containers[0].Args, "--metrics-address=[$(HOST_IP)]:9809")
	require.Empty(t, ours.Spec.Template.Spec.Containers[0].Ports)
	for name, value := range MetricsService(Options{}).Spec.Selector {
		require.Equal(t, value, ours.Spec.Template.Labels[name])
		require.NotContains(t, labels, name)
		require.NotContains(t, ours.Spec.Selector.MatchLabels, name, "a selector of before stays")
	}
	require.Equal(t, ours.Spec.Template.Spec.Affinity, theirs.Spec.Template.Spec.Affinity)
}

// Each node has one of the two, and both only while claims are left over. While nobody asks for DRA the device plugin's DaemonSet is
// what it was: with a label of that name on a node or without.
func TestOneOfTheTwoOnEachNode(t *testing.T) {
	t.Parallel()
	s := &v1.SriovOperatorConfigSpec{}
	require.Nil(t, DevicePlugin(Options{}, Images{}, s).Spec.Template.Spec.Affinity)
	terms := func(ds *appsv1.DaemonSet) corev1.NodeSelectorRequirement {
		n := ds.Spec.Template.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		require.Len(t, n.NodeSelectorTerms, 1)
		require.Len(t, n.NodeSelectorTerms[0].MatchExpressions, 1)
		return n.NodeSelectorTerms[0].MatchExpressions[0]
	}
	plugin, driver := terms(DevicePlugin(Options{DRA: true}, Images{}, s)), terms(DRA(Options{DRA: true}, Images{}, s))
	require.Equal(t, corev1.NodeSelectorRequirement{Key: "sriovkit.io/resource-mode", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"dra", "dra-leaving"}}, plugin)
	require.Equal(t, corev1.NodeSelectorRequirement{Key: "sriovkit.io/resource-mode", Operator: corev1.NodeSelectorOpIn, Values: []string{"dra", "dra-leaving", "dra-rest"}}, driver)
}

// A class has the name of a DNS subdomain whatever the resource is called, and one of its own.
func TestNamesOfDeviceClasses(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, name := range []string{"vfs", "intel_nics", "intel-nics", "Intel_nics", "INTEL_NICS", "a_", "_a", "a", "_", "x.y", "1"} {
		class := DeviceClass("openshift.io", name, metav1.OwnerReference{})
		require.Empty(t, validation.IsDNS1123Subdomain(class.Name), class.Name)
		require.False(t, seen[class.Name], class.Name)
		seen[class.Name] = true
		require.Equal(t, "openshift.io/"+name, *class.Spec.ExtendedResourceName)
		require.Equal(t, `device.driver == "`+DRADriver+`" && device.attributes["k8s.cni.cncf.io"].?resourceName.orValue("") == "openshift.io/`+name+`"`,
			class.Spec.Selectors[0].CEL.Expression, "a device without the attribute is no error, which would end the scheduling of the pod")
	}
	require.True(t, seen["vfs.openshift.io"])
}

// manifest reads a DaemonSet from a file of several objects.
func manifest(t *testing.T, path, name string) *appsv1.DaemonSet {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	var theirs appsv1.DaemonSet
	for doc := range bytes.SplitSeq(content, []byte("\n---\n")) {
		if bytes.Contains(doc, []byte("kind: DaemonSet\n")) && bytes.Contains(doc, []byte("name: "+name+"\n")) {
			require.NoError(t, yaml.UnmarshalStrict(doc, &theirs))
		}
	}
	require.NotEmpty(t, theirs.Name)
	return &theirs
}

// alike compares what two DaemonSets are allowed, see of the node, and are limited to.
func alike(t *testing.T, theirs, ours *appsv1.DaemonSet) {
	t.Helper()
	a, b := theirs.Spec.Template.Spec, ours.Spec.Template.Spec
	require.Equal(t, a.HostNetwork, b.HostNetwork)
	require.Equal(t, a.HostPID, b.HostPID)
	require.Equal(t, a.AutomountServiceAccountToken, b.AutomountServiceAccountToken)
	require.Equal(t, a.PriorityClassName, b.PriorityClassName)
	require.Equal(t, a.Tolerations, b.Tolerations)
	c, d := a.Containers[0], b.Containers[0]
	require.Equal(t, c.SecurityContext, d.SecurityContext)
	require.True(t, c.Resources.Requests.Cpu().Equal(*d.Resources.Requests.Cpu()))
	require.True(t, c.Resources.Requests.Memory().Equal(*d.Resources.Requests.Memory()))
	require.True(t, c.Resources.Limits.Memory().Equal(*d.Resources.Limits.Memory()))
	require.Equal(t, c.TerminationMessagePolicy, d.TerminationMessagePolicy)
	require.ElementsMatch(t, mounts(t, a), mounts(t, b))
	require.Contains(t, d.Args, "--dev-root=/host")
}

// mounts of the first container that are of the node, but for the configuration's.
func mounts(t *testing.T, s corev1.PodSpec) (out []string) {
	t.Helper()
	volumes := map[string]string{}
	for _, v := range s.Volumes {
		if v.HostPath != nil {
			volumes[v.Name] = v.HostPath.Path
		}
	}
	for _, m := range s.Containers[0].VolumeMounts {
		if m.Name == "config" { // a file of the node's daemon here, a ConfigMap there
			require.True(t, m.ReadOnly)
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

// Nothing mounts the whole host, and what moved on the host is found where it is.
func TestHostPaths(t *testing.T) {
	t.Parallel()
	o := Options{Namespace: "n", CNIBinDir: "/var/lib/cni/bin", Host: HostPaths{Kubelet: "/var/lib/k0s/kubelet", State: "/var/lib/sriov"}}
	img := Images{Daemon: "d", DevicePlugin: "p", CNI: map[string]string{"sriov": "s"}}
	daemon, plugin := Daemon(o, img, &v1.SriovOperatorConfigSpec{}), DevicePlugin(o, img, &v1.SriovOperatorConfigSpec{})
	paths := map[string]string{}
	driver := DRA(o, img, &v1.SriovOperatorConfigSpec{})
	require.Contains(t, driver.Spec.Template.Spec.Containers[0].Args, "--kubelet-dir=/var/lib/k0s/kubelet")
	require.Contains(t, mounts(t, driver.Spec.Template.Spec), "/var/lib/k0s/kubelet/plugins/"+DRADriver+" at /var/lib/k0s/kubelet/plugins/"+DRADriver+" rw", "kubelet is told the path of the socket")
	require.Contains(t, mounts(t, daemon.Spec.Template.Spec), "/var/lib/k0s/kubelet/plugins/"+DRADriver+" at /host/var/lib/k0s/kubelet/plugins/"+DRADriver+" ro")
	for _, ds := range []*appsv1.DaemonSet{daemon, plugin, driver} {
		for _, v := range ds.Spec.Template.Spec.Volumes {
			if v.HostPath == nil {
				continue
			}
			require.NotEqual(t, "/", v.HostPath.Path)
			require.NotEqual(t, "plugins", filepath.Base(v.HostPath.Path), "volumes that are staged there would stay busy")
			if v.Name != "device-plugins" { // kubelet has it built in
				require.NotContains(t, v.HostPath.Path, "/var/lib/kubelet")
			}
			require.False(t, strings.HasPrefix(v.HostPath.Path, "/etc/sriov-operator"), v.HostPath.Path)
			paths[v.Name] = v.HostPath.Path
		}
	}
	require.Equal(t, "/var/lib/kubelet/device-plugins", paths["device-plugins"])
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
