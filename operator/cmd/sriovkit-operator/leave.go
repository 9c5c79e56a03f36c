// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

// leaveInterval is how often it is looked whether the operator is done.
const leaveInterval = time.Second

// runLeave deletes the SriovOperatorConfig "default" and waits until the operator, which has
// to run meanwhile, took back what it made for it: DaemonSets, states and labels of Nodes.
// Policies and networks are left alone, and so are VFs and running pods.
func runLeave(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) error {
	flags := flag.NewFlagSet("leave", flag.ContinueOnError)
	flags.SetOutput(stderr)
	namespace := flags.String("namespace", getenv("NAMESPACE"), "of the operator (default $NAMESPACE)")
	kubeconfig := flags.String("kubeconfig", "", "`file` to find the cluster by (default $KUBECONFIG, or the cluster that this runs in)")
	timeout := flags.Duration("timeout", 4*time.Minute, "how long the operator may take")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *namespace == "" {
		return errors.New("NAMESPACE is not set: the operator's own namespace")
	}
	config, err := restConfig(*kubeconfig, getenv)
	if err != nil {
		return err
	}
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	return leave(ctx, c, *namespace, stdout)
}

func leave(ctx context.Context, c client.Client, namespace string, stdout io.Writer) error {
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1.DefaultConfigName}}
	if err := c.Delete(ctx, cfg); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete SriovOperatorConfig %s: %w", cfg.Name, err)
	}
	said := ""
	for {
		left, err := leftovers(ctx, c, namespace)
		switch {
		case err == nil && left == "":
			fmt.Fprintln(stdout, "nothing of the operator is left on the nodes")
			return nil
		case err == nil && left != said:
			fmt.Fprintln(stdout, "waiting for the operator to take back", left)
			said = left
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%w: the operator has not taken back %s: does it run? "+
				"See its log, or go on without (helm uninstall --no-hooks) and delete that by hand", context.Cause(ctx), said), err)
		case <-time.After(leaveInterval):
		}
	}
}

// leftovers names what is there because a SriovOperatorConfig was; "" is nothing.
func leftovers(ctx context.Context, c client.Client, namespace string) (string, error) {
	var found []string
	var sets appsv1.DaemonSetList
	if err := c.List(ctx, &sets, client.InNamespace(namespace)); err != nil {
		return "", err
	}
	for _, ds := range sets.Items {
		switch ds.Name {
		case deploy.DaemonName, deploy.DevicePluginName, deploy.DRAName:
			found = append(found, "DaemonSet "+ds.Name)
		}
	}
	var states v1.SriovNetworkNodeStateList
	if err := c.List(ctx, &states, client.InNamespace(namespace)); err != nil {
		return "", err
	}
	if n := len(states.Items); n > 0 {
		found = append(found, fmt.Sprintf("%d SriovNetworkNodeStates", n))
	}
	var nodes metav1.PartialObjectMetadataList
	nodes.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NodeList"))
	if err := c.List(ctx, &nodes); err != nil {
		return "", err
	}
	marked := 0
	for _, node := range nodes.Items {
		if node.Labels[v1.LabelDevicePlugin] != "" || node.Annotations[v1.AnnotationNodeState] != "" {
			marked++
		}
	}
	if marked > 0 {
		found = append(found, fmt.Sprintf("its marks on %d Nodes", marked))
	}
	return strings.Join(found, ", "), nil
}
