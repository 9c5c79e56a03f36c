// SPDX-License-Identifier: Apache-2.0

// Command kubectl-sriov shows what SR-IOV does in a cluster: nodes, ports, VFs and who has
// them, and why something is not as it should be. kubectl finds it as "kubectl sriov".
//
// It only reads, and says what the account may not read.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/inventory"
	"github.com/sriovkit/sriovkit/operator/internal/nad"
)

// version is set by the linker.
var version = "devel"

const usage = `kubectl sriov: SR-IOV in this cluster, read-only

  kubectl sriov [NODE...]         nodes, ports and VFs, and who has them
  kubectl sriov why KIND/NAME     what a pod, policy or node lacks and what to do; NAME alone if one has it
  kubectl sriov top [NODE...]     traffic per VF and pod (needs the gate metricsExporter)
  kubectl sriov dump              an archive for those who help, without secrets
  kubectl sriov version

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	out := output{Writer: os.Stdout, colour: term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
	err := run(ctx, os.Args[1:], out, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "kubectl sriov:", printable(err.Error()))
		os.Exit(1)
	}
}

// command is one run: where the cluster is and how to print.
type command struct {
	output
	stderr    io.Writer
	json      bool
	namespace string // of the pod in question
	operator  string // namespace of the operator; empty finds it
	config    *rest.Config
	patience  time.Duration // with a node's metrics or log
	client    client.Client
}

func run(ctx context.Context, args []string, out output, stderr io.Writer) error {
	printed := &firstError{Writer: out.Writer}
	out.Writer = printed
	return cmp.Or(answer(ctx, args, out, stderr), printed.err)
}

func answer(ctx context.Context, args []string, out output, stderr io.Writer) error {
	verb := "show"
	if len(args) > 0 {
		switch args[0] {
		case "why", "top", "dump":
			verb, args = args[0], args[1:]
		case "version", "-version", "--version":
			fmt.Fprintln(out, version)
			return nil
		case "help":
			args[0] = "-h"
		}
	}
	c := &command{output: out, stderr: stderr, patience: 30 * time.Second}
	flags := flag.NewFlagSet("kubectl sriov", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage); flags.PrintDefaults() }
	var where clientcmd.ConfigOverrides
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	flags.StringVar(&rules.ExplicitPath, "kubeconfig", "", "kubeconfig `file`")
	flags.StringVar(&where.CurrentContext, "context", "", "`name` of the kubeconfig's context")
	flags.StringVar(&where.Context.Namespace, "n", "", "`namespace` of the pod in question")
	flags.StringVar(&where.Context.Namespace, "namespace", "", "the same")
	flags.StringVar(&c.operator, "operator-namespace", "", "`namespace` of the operator; found if not given")
	format := flags.String("o", "", "output format: json, or a table if empty")
	var t traffic
	var file string
	switch verb {
	case "top":
		flags.DurationVar(&t.interval, "interval", defaultInterval, "time over which rates are taken")
		flags.IntVar(&t.port, "port", defaultPort, "of the metrics on the nodes")
	case "dump":
		flags.StringVar(&file, "file", "", "`file` to write; sriov-dump-TIME.tar.gz if empty")
	}
	names, err := parse(flags, args)
	if err != nil {
		return err
	}
	if *format != "" && *format != "json" {
		return fmt.Errorf("-o %q: want json, or nothing for a table", *format)
	}
	c.json = *format == "json"
	if err := c.connect(clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &where)); err != nil {
		return err
	}
	switch verb {
	case "why":
		return c.why(ctx, names)
	case "top":
		return c.top(ctx, t, names)
	case "dump":
		if len(names) > 0 {
			return fmt.Errorf("dump %q: it takes no names, and is of the whole cluster; -file names the archive", names[0])
		}
		return c.dump(ctx, file)
	}
	return c.show(ctx, names)
}

// parse allows flags after names, as kubectl does.
func parse(flags *flag.FlagSet, args []string) (names []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			return names, nil
		}
		names, args = append(names, flags.Arg(0)), flags.Args()[1:]
	}
}

func (c *command) connect(kubeconfig clientcmd.ClientConfig) (err error) {
	if c.config, err = kubeconfig.ClientConfig(); err != nil {
		return fmt.Errorf("find the cluster: %w", err)
	}
	c.config.QPS = -1
	if c.namespace, _, err = kubeconfig.Namespace(); err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1.AddToScheme(scheme), nad.AddToScheme(scheme)); err != nil {
		return err
	}
	c.client, err = client.New(c.config, client.Options{Scheme: scheme})
	return err
}

func (c *command) read(ctx context.Context) (*inventory.Inventory, error) {
	inv, err := inventory.Read(ctx, c.client, c.operator)
	if err != nil {
		return nil, fmt.Errorf("read the cluster at %s: %w", c.config.Host, err)
	}
	return inv, nil
}

// unread tells people about kinds that the account may not read.
func (c *command) unread(inv *inventory.Inventory) {
	for _, missed := range inv.Missed() {
		fmt.Fprintln(c.stderr, "not read:", printable(missed))
	}
}

func (c *command) printJSON(value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c, escaped(string(text)))
	return err
}
