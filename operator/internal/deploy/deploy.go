// SPDX-License-Identifier: Apache-2.0

// Package deploy describes what the operator keeps in the cluster as its configuration
// asks: the DaemonSets on the selected nodes (its own daemon, which also installs the CNI
// plugins, the device plugin, the DRA driver), the webhook configurations, the Service of metrics.
// It is pure; what they may do is granted by the manifests under config/rbac.
package deploy

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// Names of the DaemonSets, their service accounts and their label "app".
const (
	DaemonName       = "sriov-network-config-daemon"
	DevicePluginName = "sriov-device-plugin"
)

// Images by what they are for; an empty one leaves that part out.
type Images struct {
	Daemon       string // this operator's own
	DevicePlugin string
	// CNI plugins, by the name of their binary: sriov, ib-sriov, ovs, rdma.
	CNI         map[string]string
	PullSecrets []string
}

// Options beside the images.
type Options struct {
	Namespace      string
	ResourcePrefix string
	CNIBinDir      string // on the host
	Host           HostPaths
	NodeSelector   map[string]string
	MetricsPort    int // of the device plugin on the nodes, if the gate for it is on
	// DRA keeps the device plugin off the nodes that the DRA driver serves.
	DRA bool
}

// HostPaths are directories of the nodes that distributions keep elsewhere. The zero value
// of each is its default.
type HostPaths struct {
	Kubelet  string // its root directory: /var/lib/kubelet
	State    string // what the daemon remembers: /etc/sriov-operator
	Udev     string // rules: /etc/udev/rules.d
	Modprobe string // options of modules: /etc/modprobe.d
}

func (h HostPaths) withDefaults() HostPaths {
	return HostPaths{
		cmp.Or(h.Kubelet, "/var/lib/kubelet"), cmp.Or(h.State, "/etc/sriov-operator"),
		cmp.Or(h.Udev, "/etc/udev/rules.d"), cmp.Or(h.Modprobe, "/etc/modprobe.d"),
	}
}

// DeviceManagerDir is where kubelet's device manager keeps its files. It is not below kubelet's
// root directory, wherever that is: kubelet has this path built in
// (k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1, DevicePluginPath).
const DeviceManagerDir = "/var/lib/kubelet/device-plugins"

// draDir is the DRA driver's own directory. What is beside it is not mounted: the volumes that
// storage drivers have staged there would stay busy as long as the pod runs.
func (h HostPaths) draDir() string { return h.Kubelet + "/plugins/" + DRADriver }

const (
	hostRoot = "/host"
	toolsDir = "/tools"
	cniDir   = "/cni-bin"
	// program is the path of the operator's binary in its image.
	program = "/sriovkit-operator"
)

// directory of the node in a container.
type directory struct {
	name, host, inside string
	kind               corev1.HostPathType
	readOnly           bool
	follow             bool // what the host mounts below it later
}

func (d directory) volume() corev1.Volume { return hostPath(d.name, d.host, d.kind) }

func (d directory) mount() corev1.VolumeMount {
	m := corev1.VolumeMount{Name: d.name, MountPath: d.inside, ReadOnly: d.readOnly}
	if d.follow {
		m.MountPropagation = new(corev1.MountPropagationHostToContainer)
	}
	return m
}

// daemonDirs are all that the daemon sees of the node, below hostRoot.
func daemonDirs(h HostPaths) []directory {
	const create = corev1.HostPathDirectoryOrCreate
	below := func(d directory) directory {
		d.inside = hostRoot + d.host
		return d
	}
	return []directory{
		below(directory{name: "sys", host: "/sys"}),
		below(directory{name: "proc", host: "/proc"}), // network namespaces of pods are found through the host's processes
		below(directory{name: "dev", host: "/dev"}),
		below(directory{name: "run", host: "/run", follow: true}),
		below(directory{name: "modules", host: "/lib/modules", readOnly: true}),
		below(directory{name: "state", host: h.State, kind: create}),
		below(directory{name: "udev", host: h.Udev, kind: create}),
		below(directory{name: "modprobe", host: h.Modprobe, kind: create}),
		below(directory{name: "pod-resources", host: h.Kubelet + "/pod-resources", kind: create, readOnly: true}),
		below(directory{name: "device-plugins", host: DeviceManagerDir, kind: create, readOnly: true}), // what it has given out
		below(directory{name: "claims", host: h.draDir(), kind: create, readOnly: true}),               // records of the DRA driver
	}
}

// Daemon describes the DaemonSet of the node daemon.
func Daemon(o Options, img Images, cfg *v1.SriovOperatorConfigSpec) *appsv1.DaemonSet {
	h := o.Host.withDefaults()
	env := []corev1.EnvVar{
		{Name: "NODE_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "spec.nodeName"}}},
		{Name: "NAMESPACE", Value: o.Namespace},
		{Name: "KUBELET_ROOT_DIR", Value: h.Kubelet}, {Name: "HOST_STATE_DIR", Value: h.State},
		{Name: "HOST_UDEV_DIR", Value: h.Udev}, {Name: "HOST_MODPROBE_DIR", Value: h.Modprobe},
	}
	for _, k := range slices.Sorted(maps.Keys(cfg.ConfigDaemonEnvVars)) {
		env = append(env, corev1.EnvVar{Name: k, Value: cfg.ConfigDaemonEnvVars[k]})
	}
	ds := daemonSet(DaemonName, o, img.PullSecrets)
	pod := &ds.Spec.Template.Spec
	pod.HostPID = true
	c := corev1.Container{
		Name: DaemonName, Image: img.Daemon, Command: []string{program, "daemon", "-root=" + hostRoot, "-v=" + strconv.Itoa(cfg.LogLevel)},
		Env: env, SecurityContext: &corev1.SecurityContext{Privileged: new(true)},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi")}},
	}
	for _, d := range daemonDirs(h) {
		pod.Volumes = append(pod.Volumes, d.volume())
		c.VolumeMounts = append(c.VolumeMounts, d.mount())
	}
	pod.Containers = []corev1.Container{c}
	pod.InitContainers = installers(img)
	if len(pod.InitContainers) > 0 {
		pod.Volumes = append(pod.Volumes, hostPath("cni-bin", o.CNIBinDir, corev1.HostPathDirectoryOrCreate),
			corev1.Volume{Name: "tools", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	}
	return ds
}

// installers put the CNI plugins on the node: the first hands the others this
// operator's installer, so that an image needs to contain nothing but its plugin. They see
// the one directory that they write to.
func installers(img Images) []corev1.Container {
	tools := corev1.VolumeMount{Name: "tools", MountPath: toolsDir}
	bin := corev1.VolumeMount{Name: "cni-bin", MountPath: cniDir}
	var out []corev1.Container
	for _, plugin := range slices.Sorted(maps.Keys(img.CNI)) {
		if img.CNI[plugin] == "" {
			continue
		}
		if len(out) == 0 {
			out = append(out, corev1.Container{
				Name: "installer", Image: img.Daemon, Command: []string{program, "install", "-to=" + toolsDir, program},
				VolumeMounts: []corev1.VolumeMount{tools}, SecurityContext: unprivileged(),
			})
		}
		out = append(out, corev1.Container{
			Name: plugin + "-cni", Image: img.CNI[plugin],
			Command:      []string{toolsDir + program, "install", "-to=" + cniDir, plugin},
			VolumeMounts: []corev1.VolumeMount{tools, bin}, SecurityContext: unprivileged(),
		})
	}
	return out
}

// unprivileged is root, for the directories of the node belong to root, without any
// capability. Where SELinux enforces, containers may touch those directories with the label
// spc_t alone, which gives nothing else.
func unprivileged() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		RunAsUser: new(int64(0)), AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		SELinuxOptions: &corev1.SELinuxOptions{Type: "spc_t"},
	}
}

// DevicePlugin describes the DaemonSet of the device plugin. It runs on every selected
// node, also without resources: the first policy then finds it there. Its
// configuration is a file that the node's daemon writes and it reloads.
func DevicePlugin(o Options, img Images, cfg *v1.SriovOperatorConfigSpec) *appsv1.DaemonSet {
	args := []string{"--log-level=10", "--resource-prefix=" + o.ResourcePrefix, "--config-file=/etc/pcidp/config.json", "--wait-for-config", "--dev-root=" + hostRoot}
	if cfg.UseCDI {
		args = append(args, "--use-cdi")
	}
	h := o.Host.withDefaults()
	ds := daemonSet(DevicePluginName, o, img.PullSecrets)
	pod := &ds.Spec.Template.Spec
	pod.AutomountServiceAccountToken = new(false)
	const create, kubelet = corev1.HostPathDirectoryOrCreate, "/var/lib/kubelet" // where the device plugin looks
	c := corev1.Container{
		Name: DevicePluginName, Image: img.DevicePlugin, Args: args, SecurityContext: unprivileged(), Env: podName(),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
		},
	}
	for _, d := range []directory{
		{name: "config", host: h.State + "/device-plugin", inside: "/etc/pcidp", kind: create, readOnly: true},
		{name: "dev", host: "/dev", inside: hostRoot + "/dev", readOnly: true},
		{name: "device-plugins", host: DeviceManagerDir, inside: DeviceManagerDir, kind: create},
		{name: "plugins-registry", host: h.Kubelet + "/plugins_registry", inside: kubelet + "/plugins_registry", kind: create},
		{name: "pod-resources", host: h.Kubelet + "/pod-resources", inside: kubelet + "/pod-resources", kind: create, readOnly: true},
		{name: "dra-driver", host: h.Kubelet + "/plugins/" + DRADriver, inside: kubelet + "/plugins/" + DRADriver, kind: create, readOnly: true}, // records of claims
		{name: "device-info", host: "/var/run/k8s.cni.cncf.io/devinfo/dp", inside: "/var/run/k8s.cni.cncf.io/devinfo/dp", kind: create},
		{name: "cdi", host: "/var/run/cdi", inside: "/var/run/cdi", kind: create},
	} {
		pod.Volumes = append(pod.Volumes, d.volume())
		c.VolumeMounts = append(c.VolumeMounts, d.mount())
	}
	if cfg.FeatureGates[GateMetrics] {
		serveMetrics(&ds.Spec.Template, &c, o)
		probeMetrics(&c, o)
	}
	if o.DRA {
		pod.Affinity = notInDRAMode()
	}
	pod.Containers = []corev1.Container{c}
	return ds
}

func daemonSet(name string, o Options, pullSecrets []string) *appsv1.DaemonSet {
	app := map[string]string{"app": name}
	ds := &appsv1.DaemonSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"},
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: name, Labels: app},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: app},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
				Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: new(intstr.FromString("33%"))},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: app},
				Spec: corev1.PodSpec{
					ServiceAccountName: name, HostNetwork: true, PriorityClassName: "system-node-critical",
					NodeSelector: o.NodeSelector,
					Tolerations:  []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
				},
			},
		},
	}
	for _, s := range pullSecrets {
		ds.Spec.Template.Spec.ImagePullSecrets = append(ds.Spec.Template.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: s})
	}
	return ds
}

func hostPath(name, path string, kind corev1.HostPathType) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}}}
}
