// SPDX-License-Identifier: Apache-2.0

// Command sriovkit-operator turns SR-IOV policies into VFs, resources and networks.
// One binary in one image, in three roles: the operator itself, the daemon on each
// node, and the installer of CNI plugins.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

// version is set by the linker.
var version = "devel"

const usage = `sriovkit-operator: SR-IOV policies in, VFs, resources and networks out

  sriovkit-operator operator [flags]          reconcile policies, networks and drains in a cluster
  sriovkit-operator daemon [flags]            keep this node as its SriovNetworkNodeState says
  sriovkit-operator install -to DIR FILE...   put programs into a directory of the host, atomically
  sriovkit-operator leave [flags]             have the operator take back what it put onto nodes, before it is uninstalled
  sriovkit-operator -version

Each takes -h. The operator and the daemon are configured by environment variables that
the manifests under config/ set.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.Getenv)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "sriovkit-operator:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return errors.New("give a subcommand: operator, daemon, install or leave")
	}
	switch args[0] {
	case "operator":
		return runOperator(ctx, args[1:], stderr, getenv)
	case "daemon":
		return runDaemon(ctx, args[1:], stderr, getenv)
	case "leave":
		return runLeave(ctx, args[1:], stdout, stderr, getenv)
	case "install":
		return runInstall(args[1:], stdout, stderr)
	case "-version", "--version", "version":
		fmt.Fprintln(stdout, version)
		return nil
	case "-h", "-help", "--help", "help":
		fmt.Fprint(stdout, usage)
		return nil
	}
	fmt.Fprint(stderr, usage)
	return fmt.Errorf("no such subcommand: %q", args[0])
}

// logTo sends the logs of everything in the process to w, as JSON. Level 0 tells what
// changes, 1 also why, 2 everything.
func logTo(w io.Writer, level int) {
	log := logr.FromSlogHandler(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.Level(-level)}))
	ctrl.SetLogger(log)
	klog.SetLogger(log)
}

// clusterConfig returns what a client of the cluster is made of: how to reach it, see restConfig,
// and the kinds that it knows.
func clusterConfig(kubeconfig string, getenv func(string) string) (*rest.Config, *runtime.Scheme, error) {
	cfg, err := restConfig(kubeconfig, getenv)
	if err != nil {
		return nil, nil, err
	}
	scheme, err := newScheme()
	return cfg, scheme, err
}

// newScheme has the kinds of Kubernetes, of the operator, and NetworkAttachmentDefinition.
func newScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	return s, errors.Join(clientgoscheme.AddToScheme(s), v1.AddToScheme(s), nad.AddToScheme(s))
}
