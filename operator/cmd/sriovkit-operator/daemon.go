// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/sriovkit/sriovkit/libsriov"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
	"github.com/sriovkit/sriovkit/operator/internal/node"
)

func runDaemon(ctx context.Context, args []string, stderr io.Writer, getenv func(string) string) error {
	flags := flag.NewFlagSet("daemon", flag.ContinueOnError)
	flags.SetOutput(stderr)
	root := flags.String("root", "/", "where the host's file system is mounted")
	name := flags.String("node", getenv("NODE_NAME"), "name of this node (default $NODE_NAME)")
	namespace := flags.String("namespace", getenv("NAMESPACE"), "namespace of the operator (default $NAMESPACE)")
	kubelet := cmp.Or(getenv("KUBELET_ROOT_DIR"), "/var/lib/kubelet")
	socket := flags.String("pod-resources", filepath.Join(kubelet, "pod-resources/kubelet.sock"),
		"the kubelet's pod-resources socket, below root (default below $KUBELET_ROOT_DIR); empty relies on where netdevs are")
	files := node.Files{}
	flags.StringVar(&files.StateDir, "state-dir", cmp.Or(getenv("HOST_STATE_DIR"), "/etc/sriov-operator"),
		"directory of the host, below root, for records and the device plugin's configuration (default $HOST_STATE_DIR)")
	flags.StringVar(&files.UdevDir, "udev-dir", cmp.Or(getenv("HOST_UDEV_DIR"), "/etc/udev/rules.d"),
		"directory of the host, below root, for udev rules (default $HOST_UDEV_DIR); one in /run for hosts with a read-only /etc")
	flags.StringVar(&files.ModprobeDir, "modprobe-dir", cmp.Or(getenv("HOST_MODPROBE_DIR"), "/etc/modprobe.d"),
		"directory of the host, below root, for options of modules (default $HOST_MODPROBE_DIR)")
	metricsAddr := flags.String("metrics-bind-address", cmp.Or(getenv("METRICS_BIND_ADDRESS"), "0"),
		"where to serve /metrics (default $METRICS_BIND_ADDRESS), an address of the host; 0 does not")
	kubeconfig := flags.String("kubeconfig", "", "kubeconfig (default $KUBECONFIG; inside a cluster neither is needed)")
	level := flags.Int("v", 0, "log level, 0 to 2")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *name == "" || *namespace == "" {
		return errors.New("give the node's name and the operator's namespace: NODE_NAME and NAMESPACE, or -node and -namespace")
	}
	files.Root = *root
	for _, dir := range []string{files.StateDir, files.UdevDir, files.ModprobeDir, kubelet} {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("directory of the host %q: want an absolute path", dir)
		}
	}
	if *socket != "" {
		*socket = filepath.Join(*root, *socket)
	}
	logTo(stderr, *level)
	host, err := libsriov.Open(*root)
	if err != nil {
		return fmt.Errorf("open the host at %s: %w", *root, err)
	}
	cfg, scheme, err := clusterConfig(*kubeconfig, getenv)
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme:  scheme,
		Metrics: metricsserver.Options{BindAddress: *metricsAddr},
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject: map[client.Object]cache.ByObject{&v1.SriovNetworkNodeState{}: {
				Namespaces: map[string]cache.Config{*namespace: {}}, Field: fields.OneTermEqualSelector("metadata.name", *name),
			}},
		},
	})
	if err != nil {
		return err
	}
	d := &node.Daemon{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: mgr.GetEventRecorder("sriov-network-config-daemon"),
		Machine:   node.Machine{Host: host, Files: files},
		NodeState: client.ObjectKey{Namespace: *namespace, Name: *name}, PodResources: *socket,
		Checkpoint: filepath.Join(*root, deploy.DeviceManagerDir, "kubelet_internal_checkpoint"),
		Claims:     filepath.Join(*root, kubelet, "plugins", deploy.DRADriver),
		// In the kubelet's directory itself, which is not mounted: it has every pod's volumes.
		Prepared: filepath.Join(*root, "proc/1/root", kubelet, "dra_manager_state"),
	}
	if err := d.Setup(mgr); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// restConfig finds the cluster: by the file given, by those of $KUBECONFIG, or as a pod in
// it. The client limits no rate of its own: the API server does, by priority and fairness.
func restConfig(kubeconfig string, getenv func(string) string) (cfg *rest.Config, err error) {
	files := filepath.SplitList(getenv(clientcmd.RecommendedConfigPathEnvVar))
	switch {
	case kubeconfig != "":
		cfg, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	case len(files) > 0:
		cfg, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(&clientcmd.ClientConfigLoadingRules{Precedence: files}, nil).ClientConfig()
	default:
		cfg, err = rest.InClusterConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w", err)
	}
	cfg.QPS = -1
	cfg.Wrap(countWrites)
	return cfg, nil
}
