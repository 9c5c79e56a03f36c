// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

const (
	// GateDRA makes the DRA driver, not the device plugin, offer the VFs of nodes of which
	// no pool says otherwise. The name is upstream's.
	GateDRA = "dynamicResourceAllocation"
	// DRAName of the DaemonSet, its service account and its label "app".
	DRAName = "sriov-dra-driver"
	// DRADriver publishes the VFs under this name.
	DRADriver = v1.DRADriver
	// healthSocket is where the driver says whether it is ready. It is a file of the pod's: an
	// old and a new instance share the node's network, where one port has room for one of them.
	healthSocket = "/run/sriovdra/health.sock"
)

// DRA describes the DaemonSet of the DRA driver, on the nodes whose label asks for it, and on
// those that leave it as long as pods have claims there. It
// reads the configuration that the device plugin reads.
func DRA(o Options, img Images, cfg *v1.SriovOperatorConfigSpec) *appsv1.DaemonSet {
	h := o.Host.withDefaults()
	ds := daemonSet(DRAName, o, img.PullSecrets)
	// An old and a new instance work side by side: claims are prepared throughout.
	ds.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxSurge: new(intstr.FromInt32(1)), MaxUnavailable: new(intstr.FromInt32(0))}
	pod := &ds.Spec.Template.Spec
	pod.Affinity = affinity(corev1.NodeSelectorOpIn, v1.ResourceModeDRA, v1.ResourceModeLeaving, v1.ResourceModeRest)
	c := corev1.Container{
		Name: DRAName, Image: img.DevicePlugin, Command: []string{"/usr/bin/sriovdra"}, SecurityContext: unprivileged(),
		Args: []string{
			"--config-file=/etc/pcidp/config.json", "--resource-prefix=" + o.ResourcePrefix, "--wait-for-config",
			"--dev-root=" + hostRoot, "--kubelet-dir=" + h.Kubelet, "--health-socket=" + healthSocket,
		},
		// A program is started for it, perhaps on a busy node: often only until it is ready once,
		// for which a rolling update waits, node by node.
		StartupProbe:             draProbe(2, math.MaxInt32),
		ReadinessProbe:           draProbe(10, 0),
		Env:                      append([]corev1.EnvVar{field("NODE_NAME", "spec.nodeName"), field("POD_UID", "metadata.uid")}, podName()...),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("192Mi")},
		},
	}
	const create = corev1.HostPathDirectoryOrCreate
	same := func(name, path string) directory { // kubelet and runtime are told of these paths
		return directory{name: name, host: path, inside: path, kind: create}
	}
	podResources := same("pod-resources", h.Kubelet+"/pod-resources")
	podResources.readOnly = true
	checkpoint := directory{name: "device-plugins", host: DeviceManagerDir, inside: h.Kubelet + "/device-plugins", kind: create, readOnly: true}
	for _, d := range []directory{
		{name: "config", host: h.State + "/device-plugin", inside: "/etc/pcidp", kind: create, readOnly: true},
		{name: "dev", host: "/dev", inside: hostRoot + "/dev", readOnly: true},
		same("plugin", h.draDir()), same("plugins-registry", h.Kubelet+"/plugins_registry"), podResources, checkpoint,
		same("device-info", "/var/run/k8s.cni.cncf.io"), same("cdi", "/var/run/cdi"),
	} {
		pod.Volumes = append(pod.Volumes, d.volume())
		c.VolumeMounts = append(c.VolumeMounts, d.mount())
	}
	health := filepath.Dir(healthSocket)
	pod.Volumes = append(pod.Volumes, corev1.Volume{Name: "health", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
		Medium: corev1.StorageMediumMemory, SizeLimit: new(resource.MustParse("1Mi")),
	}}})
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "health", MountPath: health})
	if cfg.FeatureGates[GateMetrics] {
		serveMetrics(&ds.Spec.Template, &c, o)
	}
	pod.Containers = []corev1.Container{c}
	return ds
}

func draProbe(period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/usr/bin/sriovdra", "-probe", "-health-socket=" + healthSocket}}},
		PeriodSeconds: period, TimeoutSeconds: 5, FailureThreshold: failures,
	}
}

func field(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
}

// podName tells a program its pod: a kubelet that does not list it has just started and does
// not know its pods yet.
func podName() []corev1.EnvVar {
	return []corev1.EnvVar{field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace")}
}

// notInDRAMode is of pods that stay off the nodes that the DRA driver serves.
func notInDRAMode() *corev1.Affinity {
	return affinity(corev1.NodeSelectorOpNotIn, v1.ResourceModeDRA, v1.ResourceModeLeaving)
}

func affinity(op corev1.NodeSelectorOperator, modes ...string) *corev1.Affinity {
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
			{Key: v1.LabelResourceMode, Operator: op, Values: modes},
		}}},
	}}}
}

// DeviceClass describes the class of one resource: pods ask for it by a claim, or unchanged
// by the name of the extended resource. owner, an object of the cluster's scope, takes it
// along when it goes.
func DeviceClass(prefix, name string, owner metav1.OwnerReference) *resourcev1.DeviceClass {
	full := prefix + "/" + name
	return &resourcev1.DeviceClass{
		TypeMeta:   metav1.TypeMeta{APIVersion: resourcev1.SchemeGroupVersion.String(), Kind: "DeviceClass"},
		ObjectMeta: metav1.ObjectMeta{Name: className(prefix, name), OwnerReferences: []metav1.OwnerReference{owner}},
		Spec: resourcev1.DeviceClassSpec{
			ExtendedResourceName: &full,
			Selectors: []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{
				// A device without the attribute, of another program of the driver's name or with a name
				// too long for it, has no part in this: an error would end the scheduling of the pod on
				// all nodes.
				Expression: fmt.Sprintf("device.driver == %q && device.attributes[\"k8s.cni.cncf.io\"].?resourceName.orValue(\"\") == %q", DRADriver, full),
			}}},
		},
	}
}

// className is NAME.PREFIX, a DNS name. Names of resources may have capitals and
// underscores: such a one gets a suffix, so that no two resources share a class.
func className(prefix, name string) string {
	label := strings.Trim(strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name)), "-")
	if label != name {
		sum := sha256.Sum256([]byte(name))
		label = strings.TrimPrefix(label+"-"+hex.EncodeToString(sum[:4]), "-")
	}
	return label + "." + strings.ToLower(prefix)
}
