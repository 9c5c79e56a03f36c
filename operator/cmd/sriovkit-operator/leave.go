// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/deploy"
)

// leaveInterval is how often it is looked whether the operator is done.
const leaveInterval = time.Second

const (
	claimsPage  = 500 // claims are listed at a time
	claimsNamed = 5   // in an error; of more, their number
)

// runLeave deletes the SriovOperatorConfig "default", unless nobody would act on that, and waits
// until the operator, which has to run meanwhile, took back what it made for it: DaemonSets,
// states and labels of Nodes.
// Policies and networks are left alone, and so are VFs and running pods.
func runLeave(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) error {
	flags := flag.NewFlagSet("leave", flag.ContinueOnError)
	flags.SetOutput(stderr)
	namespace := flags.String("namespace", getenv("NAMESPACE"), "of the operator (default $NAMESPACE)")
	kubeconfig := flags.String("kubeconfig", "", "`file` to find the cluster by (default $KUBECONFIG, or the cluster that this runs in)")
	force := flags.Bool("force", false, "go on while pods hold claims of the DRA driver: without it the kubelet cannot end them")
	timeout := flags.Duration("timeout", 4*time.Minute, "how long the operator may take")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *namespace == "" {
		return errors.New("NAMESPACE is not set: the operator's own namespace")
	}
	config, scheme, err := clusterConfig(*kubeconfig, getenv)
	if err != nil {
		return err
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	if !*force {
		if err := noClaims(ctx, c); err != nil {
			return err
		}
	}
	return leave(ctx, c, *namespace, stdout)
}

// noClaims is an error that names claims that have VFs of the DRA driver, if there are any:
// the kubelet cannot end their pods when the driver is gone.
func noClaims(ctx context.Context, c client.Client) error {
	var held []string
	for next := ""; ; {
		var page resourcev1.ResourceClaimList
		err := c.List(ctx, &page, client.Limit(claimsPage), client.Continue(next))
		if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
			return nil // a cluster without dynamic resource allocation
		}
		if err != nil {
			return fmt.Errorf("list the ResourceClaims: %w", err)
		}
		for i := range page.Items {
			a := page.Items[i].Status.Allocation
			if a != nil && slices.ContainsFunc(a.Devices.Results, func(d resourcev1.DeviceRequestAllocationResult) bool { return d.Driver == deploy.DRADriver }) {
				held = append(held, client.ObjectKeyFromObject(&page.Items[i]).String())
			}
		}
		if next = page.Continue; next == "" {
			break
		}
	}
	if len(held) == 0 {
		return nil
	}
	more := ""
	if n := len(held) - claimsNamed; n > 0 {
		held, more = held[:claimsNamed], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("the claims %s%s have VFs, and without the DRA driver the kubelet cannot end their pods: "+
		"delete these first, or go on with -force (helm uninstall --no-hooks)", strings.Join(held, ", "), more)
}

func leave(ctx context.Context, c client.Client, namespace string, stdout io.Writer) error {
	if err := operatorRuns(ctx, c, namespace, stdout); err != nil {
		return fmt.Errorf("%w; nothing was removed. Have it run, or go on without (helm uninstall --no-hooks) and delete by hand what it made", err)
	}
	cfg := &v1.SriovOperatorConfig{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1.DefaultConfigName}}
	if err := c.Delete(ctx, cfg); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete SriovOperatorConfig %s: %w", cfg.Name, err)
	}
	said := ""
	for {
		// A replica that begins to work meanwhile has made it again.
		err := client.IgnoreNotFound(c.Delete(ctx, cfg))
		left, lerr := leftovers(ctx, c, namespace)
		err = errors.Join(err, lerr)
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
				"See its log, or go on without (helm uninstall --no-hooks) and delete that by hand",
				context.Cause(ctx), cmp.Or(said, "what it made, which could not be listed")), err)
		case <-time.After(leaveInterval):
		}
	}
}

// operatorName is that of the operator's Deployment.
const operatorName = "sriov-network-operator"

// operatorRuns waits until there is an operator that can take back what it made, if it made
// anything: without the configuration nobody would know later what is to be taken back.
func operatorRuns(ctx context.Context, c client.Client, namespace string, stdout io.Writer) error {
	said := false
	for {
		left, err := leftovers(ctx, c, namespace)
		if err == nil && left == "" {
			return nil
		}
		var d appsv1.Deployment
		if err == nil {
			err = c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: operatorName}, &d)
		}
		switch {
		case apierrors.IsNotFound(err), err == nil && d.Spec.Replicas != nil && *d.Spec.Replicas == 0:
			return fmt.Errorf("no operator runs in namespace %s, and %s are there", namespace, left)
		case meta.IsNoMatchError(err), apierrors.IsForbidden(err): // waiting does not help
			return err
		case err == nil && d.Status.AvailableReplicas > 0:
			return nil
		case err == nil && !said:
			fmt.Fprintln(stdout, "waiting for a replica of the operator to be available")
			said = true
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%w: no replica of the operator is known to be available in namespace %s", context.Cause(ctx), namespace), err)
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
		a := node.Annotations
		if node.Labels[v1.LabelDevicePlugin] != "" || a[v1.AnnotationNodeState] != "" || a[v1.AnnotationCordoned] != "" || a[v1.AnnotationModeSet] != "" {
			marked++
		}
	}
	if marked > 0 {
		found = append(found, fmt.Sprintf("its marks on %d Nodes", marked))
	}
	return strings.Join(found, ", "), nil
}
