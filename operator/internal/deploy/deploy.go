// Package deploy describes what the operator keeps in the cluster as its configuration
// asks: the DaemonSets on the selected nodes (its own daemon, which also installs the CNI
// plugins, and the device plugin), the webhook configurations, the Service of metrics.
// It is pure; what they may do is granted by the manifests under config/rbac.
package deploy

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
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
	NodeSelector   map[string]string
	MetricsPort    int // of the device plugin on the nodes, if the gate for it is on
}

const (
	hostRoot = "/host"
	toolsDir = "/tools"
	// program is the path of the operator's binary in its image.
	program = "/sriovkit-operator"
)

// Daemon describes the DaemonSet of the node daemon.
func Daemon(o Options, img Images, cfg *v1.SriovOperatorConfigSpec) *appsv1.DaemonSet {
	env := []corev1.EnvVar{
		{Name: "NODE_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "spec.nodeName"}}},
		{Name: "NAMESPACE", Value: o.Namespace},
	}
	for _, k := range slices.Sorted(maps.Keys(cfg.ConfigDaemonEnvVars)) {
		env = append(env, corev1.EnvVar{Name: k, Value: cfg.ConfigDaemonEnvVars[k]})
	}
	ds := daemonSet(DaemonName, o, img.PullSecrets)
	pod := &ds.Spec.Template.Spec
	pod.HostPID = true // network namespaces of pods are found through the host's processes
	pod.Volumes = []corev1.Volume{hostPath("host", "/", corev1.HostPathUnset), {Name: "tools", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	pod.Containers = []corev1.Container{{
		Name: DaemonName, Image: img.Daemon, Command: []string{program, "daemon", "-root=" + hostRoot, "-v=" + strconv.Itoa(cfg.LogLevel)},
		Env:             env,
		SecurityContext: &corev1.SecurityContext{Privileged: new(true)},
		VolumeMounts:    []corev1.VolumeMount{{Name: "host", MountPath: hostRoot, MountPropagation: new(corev1.MountPropagationHostToContainer)}},
	}}
	pod.InitContainers = installers(o, img)
	return ds
}

// installers put the CNI plugins on the node: the first hands the others this
// operator's installer, so that an image needs to contain nothing but its plugin.
func installers(o Options, img Images) []corev1.Container {
	tools := corev1.VolumeMount{Name: "tools", MountPath: toolsDir}
	host := corev1.VolumeMount{Name: "host", MountPath: hostRoot}
	var out []corev1.Container
	for _, plugin := range slices.Sorted(maps.Keys(img.CNI)) {
		if img.CNI[plugin] == "" {
			continue
		}
		if len(out) == 0 {
			out = append(out, corev1.Container{
				Name: "installer", Image: img.Daemon, Command: []string{program, "install", "-to=" + toolsDir, program},
				VolumeMounts: []corev1.VolumeMount{tools},
			})
		}
		out = append(out, corev1.Container{
			Name: plugin + "-cni", Image: img.CNI[plugin],
			Command:      []string{toolsDir + program, "install", "-to=" + hostRoot + o.CNIBinDir, plugin},
			VolumeMounts: []corev1.VolumeMount{tools, host},
		})
	}
	return out
}

// DevicePlugin describes the DaemonSet of the device plugin. It runs on every selected
// node, also without resources: the first policy then finds it there. Its
// configuration is a file that the node's daemon writes and it reloads.
func DevicePlugin(o Options, img Images, cfg *v1.SriovOperatorConfigSpec) *appsv1.DaemonSet {
	args := []string{"--log-level=10", "--resource-prefix=" + o.ResourcePrefix, "--config-file=/etc/pcidp/config.json", "--wait-for-config"}
	if cfg.UseCDI {
		args = append(args, "--use-cdi")
	}
	ds := daemonSet(DevicePluginName, o, img.PullSecrets)
	pod := &ds.Spec.Template.Spec
	volumes := []struct{ name, host, inside string }{
		{"config", "/etc/sriov-operator/device-plugin", "/etc/pcidp"},
		{"device-plugins", "/var/lib/kubelet/device-plugins", ""},
		{"plugins-registry", "/var/lib/kubelet/plugins_registry", ""},
		{"pod-resources", "/var/lib/kubelet/pod-resources", ""},
		{"device-info", "/var/run/k8s.cni.cncf.io", ""},
		{"cdi", "/var/run/cdi", ""},
		{"dev", "/dev", ""},
	}
	c := corev1.Container{Name: DevicePluginName, Image: img.DevicePlugin, Args: args, SecurityContext: &corev1.SecurityContext{Privileged: new(true)}}
	for _, v := range volumes {
		kind := corev1.HostPathDirectoryOrCreate
		if v.name == "dev" {
			kind = corev1.HostPathUnset
		}
		pod.Volumes = append(pod.Volumes, hostPath(v.name, v.host, kind))
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: v.name, MountPath: cmp.Or(v.inside, v.host)})
	}
	if cfg.FeatureGates[GateMetrics] {
		serveMetrics(&c, o)
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
