// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"path"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/sriovkit/sriovkit/operator/internal/controller"
	"github.com/sriovkit/sriovkit/operator/internal/controller/env"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
	"github.com/sriovkit/sriovkit/operator/internal/review"
)

// settings of the operator, from its environment.
type settings struct {
	env.Operator
	images deploy.Images
	tls    tlsSettings
}

func readSettings(getenv func(string) string) (settings, error) {
	s := settings{
		Operator: env.Operator{
			Namespace: getenv("NAMESPACE"), ResourcePrefix: getenv("RESOURCE_PREFIX"),
			ExternalDrainer: getenv("USE_EXTERNAL_DRAINER") == "true", KeepStaleMinutes: 30,
			CreateConfig: getenv("CREATE_DEFAULT_CONFIG") == "true", CNIBinDir: "/opt/cni/bin", MetricsPort: deploy.DefaultMetricsPort,
		},
		images: deploy.Images{
			Daemon: getenv("SRIOV_NETWORK_CONFIG_DAEMON_IMAGE"), DevicePlugin: getenv("SRIOV_DEVICE_PLUGIN_IMAGE"),
			CNI: map[string]string{
				"sriov": getenv("SRIOV_CNI_IMAGE"), "ib-sriov": getenv("SRIOV_INFINIBAND_CNI_IMAGE"),
				"ovs": getenv("OVS_CNI_IMAGE"), "rdma": getenv("RDMA_CNI_IMAGE"),
			},
			PullSecrets: listed(getenv("IMAGE_PULL_SECRETS")),
		},
	}
	var err error
	s.tls, err = readTLS(getenv)
	errs := []error{err}
	s.TLS = s.tls.apply
	if s.Namespace == "" {
		errs = append(errs, errors.New("NAMESPACE is not set: the operator's own namespace"))
	}
	if s.ResourcePrefix == "" {
		errs = append(errs, errors.New("RESOURCE_PREFIX is not set: the prefix of resource names, such as openshift.io"))
	}
	for name, dir := range map[string]*string{
		"SRIOV_CNI_BIN_PATH": &s.CNIBinDir, "KUBELET_ROOT_DIR": &s.Host.Kubelet, "HOST_STATE_DIR": &s.Host.State,
		"HOST_UDEV_DIR": &s.Host.Udev, "HOST_MODPROBE_DIR": &s.Host.Modprobe,
	} {
		v := getenv(name)
		if v == "" {
			continue
		}
		if *dir = path.Clean(v); !path.IsAbs(v) || *dir == "/" {
			errs = append(errs, fmt.Errorf("%s %q: want an absolute path of a directory on the nodes, and not /", name, v))
		}
	}
	if v := getenv("STALE_NODE_STATE_CLEANUP_DELAY_MINUTES"); v != "" {
		n, err := strconv.Atoi(v)
		if s.KeepStaleMinutes = n; err != nil || n < 0 {
			errs = append(errs, fmt.Errorf("STALE_NODE_STATE_CLEANUP_DELAY_MINUTES %q: want 0 or more minutes", v))
		}
	}
	if v := getenv("METRICS_EXPORTER_PORT"); v != "" {
		n, err := strconv.ParseUint(v, 10, 16)
		if s.MetricsPort = int(n); err != nil || n == 0 {
			errs = append(errs, fmt.Errorf("METRICS_EXPORTER_PORT %q: want a port, 1 to 65535", v))
		}
	}
	return s, errors.Join(errs...)
}

func runOperator(ctx context.Context, args []string, stderr io.Writer, getenv func(string) string) error {
	flags := flag.NewFlagSet("operator", flag.ContinueOnError)
	flags.SetOutput(stderr)
	metricsAddr := flags.String("metrics-bind-address", ":8080", "where to serve /metrics; 0 does not")
	metricsSecure := flags.Bool("metrics-secure", false, "serve /metrics by TLS, to those whom the API server lets get it: needs the rights of config/components/secure-metrics")
	metricsCerts := flags.String("metrics-cert-dir", "", "`directory` with tls.crt and tls.key for -metrics-secure, read again when they change (default is a certificate of its own)")
	healthAddr := flags.String("health-probe-bind-address", ":8081", "where to serve /healthz and /readyz; 0 does not")
	pprofAddr := flags.String("pprof-bind-address", "0", "where to serve /debug/pprof; 0 does not")
	webhookAddr := flags.String("webhook-bind-address", ":9443", "where to serve the webhooks that the configuration enables; 0 does not")
	webhookURL := flags.String("webhook-url", getenv("WEBHOOK_URL"), "`https://host:port` at which API servers outside of the cluster's network reach them; default is the Service (environment WEBHOOK_URL)")
	var lease lease
	lease.flags(flags)
	kubeconfig := flags.String("kubeconfig", "", "kubeconfig (default $KUBECONFIG; inside a cluster neither is needed)")
	level := flags.Int("v", 0, "log level, 0 to 2")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := lease.check(); err != nil {
		return err
	}
	s, err := readSettings(getenv)
	if err != nil {
		return err
	}
	if s.WebhookURL = *webhookURL; s.WebhookURL != "" {
		if err := deploy.CheckWebhookURL(s.WebhookURL); err != nil {
			return err
		}
	}
	if *webhookAddr != "0" {
		s.WebhookAddress = *webhookAddr
	}
	served := metricsserver.Options{BindAddress: *metricsAddr, SecureServing: *metricsSecure, CertDir: *metricsCerts, TLSOpts: []func(*tls.Config){s.TLS}}
	if *metricsSecure {
		served.FilterProvider = review.Filter
		if err := readable(*metricsCerts); err != nil {
			return err
		}
	}
	logTo(stderr, *level)
	if len(s.tls.insecure) > 0 {
		slog.Warn("insecure suites of TLS_CIPHER_SUITES are not offered", "suites", s.tls.insecure)
	}
	tune(getenv)
	cfg, scheme, err := clusterConfig(*kubeconfig, getenv)
	if err != nil {
		return err
	}
	opts := ctrl.Options{Scheme: scheme, Metrics: served, HealthProbeBindAddress: *healthAddr, PprofBindAddress: *pprofAddr}
	lease.use(&opts, s.Namespace)
	mgr, err := controller.New(cfg, s.Operator, s.images, opts)
	if err != nil {
		return err
	}
	if err := errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("ping", healthz.Ping)); err != nil {
		return err
	}
	return lease.work(ctx, mgr)
}

// tune sets what the Go runtime is to spend, unless the environment does.
func tune(getenv func(string) string) {
	if getenv("GOGC") == "" {
		// The heap is small, and every event of thousands of nodes is garbage at once:
		// memory that nobody misses buys a tenth of the CPU time.
		debug.SetGCPercent(400)
	}
	if getenv("GOMAXPROCS") == "" {
		// It waits for the API server, and each answer passes through ten goroutines: an
		// eighth of the CPU time would go into waking threads on other processors for them.
		runtime.GOMAXPROCS(1)
	}
}

// readable reports why a directory of a certificate, if one is given, cannot be used:
// without one the server would quietly make its own.
func readable(dir string) error {
	if dir == "" {
		return nil
	}
	if _, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")); err != nil {
		return fmt.Errorf("-metrics-cert-dir %q: want a certificate in tls.crt and its key in tls.key: %w", dir, err)
	}
	return nil
}
