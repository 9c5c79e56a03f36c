// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	// GateMetrics lets the device plugins serve metrics: the exporter's, and their own.
	GateMetrics = "metricsExporter"
	// MetricsServiceName and its port's name are those of upstream's exporter, by which
	// scrapers find it.
	MetricsServiceName = "sriov-network-metrics-exporter-service"
	metricsPortName    = "sriov-network-metrics"
	// DefaultMetricsPort is the exporter's.
	DefaultMetricsPort = 9110
	// labelMetrics is of pods that serve metrics: the device plugin's, or the DRA driver's.
	labelMetrics = "sriovkit.io/metrics"
)

// serveMetrics lets a program listen on the node's address, the one that the Service leads
// to, and on no other.
func serveMetrics(pod *corev1.PodTemplateSpec, c *corev1.Container, o Options) {
	pod.Labels = maps.Clone(pod.Labels)
	pod.Labels[labelMetrics] = "true"
	c.Env = append(c.Env, field("HOST_IP", "status.hostIP"))
	c.Args = append(c.Args, fmt.Sprintf("--metrics-address=[$(HOST_IP)]:%d", o.MetricsPort))
}

// probeMetrics has the kubelet ask the device plugin where it serves metrics. Without them
// nothing listens, and nothing can be probed: it then tells the kubelet alone how it is. Of the
// DRA driver the port is not declared: an old and a new instance share it for a moment.
func probeMetrics(c *corev1.Container, o Options) {
	probe := func(path string) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt(o.MetricsPort)}}}
	}
	c.LivenessProbe, c.ReadinessProbe = probe("/healthz"), probe("/readyz")
	c.Ports = append(c.Ports, corev1.ContainerPort{Name: "metrics", ContainerPort: int32(o.MetricsPort), HostPort: int32(o.MetricsPort), Protocol: corev1.ProtocolTCP})
}

// MetricsService describes the headless Service over the device plugins, and over the DRA
// drivers of nodes that have none.
func MetricsService(o Options) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: MetricsServiceName, Labels: map[string]string{"name": MetricsServiceName}},
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone, Selector: map[string]string{labelMetrics: "true"},
			Ports: []corev1.ServicePort{{
				Name: metricsPortName, Protocol: corev1.ProtocolTCP, Port: int32(o.MetricsPort), TargetPort: intstr.FromInt32(int32(o.MetricsPort)),
			}},
		},
	}
}
