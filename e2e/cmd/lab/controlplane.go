// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/controlplane"
	"github.com/sriovkit/sriovkit/e2e/netns"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

// runControlPlane serves tests of modules that do not depend on this one.
func runControlPlane(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("lab controlplane", flag.ContinueOnError)
	controllers := flags.Bool("controllers", false, "with kube-controller-manager and kube-scheduler")
	namespace := flags.Bool("namespace", false, "in a network namespace of its own")
	built := flags.Bool("built", false, "only say whether everything is built, by the exit status")
	programs := flags.Bool("programs", false, "only print the directory of the programs, built if need be")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "usage: lab controlplane [flags] [FLAG OF KUBE-APISERVER ...]\n\nRun etcd and kube-apiserver until standard input ends. When they serve, print a JSON object: Kubeconfig, Programs, Namespace.\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case *built:
		return needBuilt(ctx)
	case *programs:
		dir, err := controlplane.Programs(ctx, os.Stderr)
		if err == nil {
			_, err = fmt.Println(dir)
		}
		return err
	}
	return serveControlPlane(ctx, controlplane.Config{Controllers: *controllers, ServerFlags: flags.Args()}, *namespace)
}

func needBuilt(ctx context.Context) error {
	cache, err := stage.Open(io.Discard)
	if err != nil {
		return err
	}
	has, err := artifact.HasKubernetes(ctx, cache)
	if err == nil && !has {
		err = errors.New("the control plane is not built yet; run make artifacts once")
	}
	return err
}

func serveControlPlane(ctx context.Context, config controlplane.Config, namespace bool) (err error) {
	var ready struct{ Kubeconfig, Programs, Namespace string }
	if namespace {
		if config.Netns, err = netns.New(ctx); err != nil {
			return err
		}
		defer config.Netns.Close()
		ready.Namespace = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), config.Netns.File.Fd())
	}
	plane, err := controlplane.Start(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plane.Close()) }()
	ready.Kubeconfig, ready.Programs = plane.Kubeconfig, plane.Programs
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	select {
	case <-over:
	case <-ctx.Done():
	}
	return nil
}
