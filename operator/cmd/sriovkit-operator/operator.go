package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/controller"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

// settings of the operator, from its environment.
type settings struct {
	controller.Operator
	images    deploy.Images
	cniBinDir string
}

func readSettings(getenv func(string) string) (settings, error) {
	s := settings{
		Operator: controller.Operator{
			Namespace: getenv("NAMESPACE"), ResourcePrefix: getenv("RESOURCE_PREFIX"),
			ExternalDrainer: getenv("USE_EXTERNAL_DRAINER") == "true", KeepStaleMinutes: 30,
		},
		images: deploy.Images{
			Daemon: getenv("SRIOV_NETWORK_CONFIG_DAEMON_IMAGE"), DevicePlugin: getenv("SRIOV_DEVICE_PLUGIN_IMAGE"),
			CNI: map[string]string{
				"sriov": getenv("SRIOV_CNI_IMAGE"), "ib-sriov": getenv("SRIOV_INFINIBAND_CNI_IMAGE"),
				"ovs": getenv("OVS_CNI_IMAGE"), "rdma": getenv("RDMA_CNI_IMAGE"),
			},
			PullSecrets: strings.FieldsFunc(getenv("IMAGE_PULL_SECRETS"), func(r rune) bool { return r == ',' || r == ' ' }),
		},
		cniBinDir: "/opt/cni/bin",
	}
	var errs []error
	if s.Namespace == "" {
		errs = append(errs, errors.New("NAMESPACE is not set: the operator's own namespace"))
	}
	if s.ResourcePrefix == "" {
		errs = append(errs, errors.New("RESOURCE_PREFIX is not set: the prefix of resource names, such as openshift.io"))
	}
	if v := getenv("SRIOV_CNI_BIN_PATH"); v != "" {
		s.cniBinDir = path.Clean(v)
		if !path.IsAbs(v) {
			errs = append(errs, fmt.Errorf("SRIOV_CNI_BIN_PATH %q: want an absolute path on the nodes", v))
		}
	}
	if v := getenv("STALE_NODE_STATE_CLEANUP_DELAY_MINUTES"); v != "" {
		n, err := strconv.Atoi(v)
		if s.KeepStaleMinutes = n; err != nil || n < 0 {
			errs = append(errs, fmt.Errorf("STALE_NODE_STATE_CLEANUP_DELAY_MINUTES %q: want 0 or more minutes", v))
		}
	}
	return s, errors.Join(errs...)
}

func runOperator(ctx context.Context, args []string, stderr io.Writer, getenv func(string) string) error {
	flags := flag.NewFlagSet("operator", flag.ContinueOnError)
	flags.SetOutput(stderr)
	metricsAddr := flags.String("metrics-bind-address", ":8080", "where to serve /metrics; 0 does not")
	healthAddr := flags.String("health-probe-bind-address", ":8081", "where to serve /healthz and /readyz; 0 does not")
	elect := flags.Bool("leader-elect", true, "work only while holding the lease, so that replicas can stand by")
	kubeconfig := flags.String("kubeconfig", "", "kubeconfig; inside a cluster it is not needed")
	level := flags.Int("v", 0, "log level, 0 to 2")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s, err := readSettings(getenv)
	if err != nil {
		return err
	}
	logTo(stderr, *level)
	mgr, err := newOperator(*kubeconfig, s, ctrl.Options{
		Metrics:                metricsserver.Options{BindAddress: *metricsAddr},
		HealthProbeBindAddress: *healthAddr,
		LeaderElection:         *elect, LeaderElectionID: "sriovkit-operator", LeaderElectionNamespace: s.Namespace,
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// newOperator makes a manager that caches no more than the reconcilers read.
func newOperator(kubeconfig string, s settings, o ctrl.Options) (ctrl.Manager, error) {
	cfg, err := restConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	if o.Scheme, err = newScheme(); err != nil {
		return nil, err
	}
	own := cache.ByObject{Namespaces: map[string]cache.Config{s.Namespace: {}}}
	o.Cache = cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&v1.SriovNetworkNodePolicy{}: own, &v1.SriovNetworkNodeState{}: own, &v1.SriovOperatorConfig{}: own, &v1.SriovNetworkPoolConfig{}: own,
			// Whose apply made a DaemonSet is told by its managed fields.
			&appsv1.DaemonSet{}: {Namespaces: own.Namespaces, Transform: func(in any) (any, error) { return in, nil }},
		},
	}
	mgr, err := ctrl.NewManager(cfg, o)
	if err != nil {
		return nil, err
	}
	if err := controller.Setup(mgr, s.Operator, s.images, s.cniBinDir); meta.IsNoMatchError(err) {
		return nil, fmt.Errorf("%w: apply the CRDs under config/crd and that of NetworkAttachmentDefinition", err)
	} else if err != nil {
		return nil, err
	}
	return mgr, errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("ping", healthz.Ping))
}
