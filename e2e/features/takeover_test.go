// SPDX-License-Identifier: Apache-2.0

package features_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/cluster"
	"github.com/sriovkit/sriovkit/e2e/component"
)

// TestLongTakeover hands the cluster to an installation of the upstream operator, by applying
// what it consists of over ours, and takes it over again by applying ours over that. A pod
// with a VF notices neither, and nothing of the other installation's rights is left.
func TestLongTakeover(t *testing.T) {
	e := newLongEnv(t)
	checkout, err := component.Checkout(e.ctx)
	require.NoError(t, err)
	theirs, err := os.ReadFile(filepath.Join(checkout, "operator/internal/controller/testdata/upstream/installation.yaml"))
	require.NoError(t, err)
	images := func(label string) string { // of what runs
		return e.get("pods", "-n", component.Namespace, "-l", label, "-o", "jsonpath={.items[*].spec.containers[*].image}")
	}
	e.Cleanup(func() {
		require.NoError(e, component.InstallOperator(e.ctx, e.Kubectl, checkout))
		e.kubectl("delete", "--ignore-not-found", "clusterrole/network-resources-injector", "clusterrolebinding/network-resources-injector-role-binding")
	})
	e.run(pod{name: "rider", networks: "red", resource: "openshift.io/nics"})
	picture := func() string {
		return e.kubectl("get", "pod", "rider", "-o", "jsonpath={.status.containerStatuses[0].containerID}") + "\n" +
			e.exec("rider", "ip", "addr", "show", "net1") + "\n" + e.vfs() + "\n" + e.functions("0000:01:00.0")
	}
	before := picture()

	t.Log("theirs over ours")
	e.apply(strings.NewReplacer("upstream.test/operator:1", cluster.BusyboxImage, "upstream.test/daemon:1", cluster.BusyboxImage,
		"command: [sriov-network-operator]", "command: [sleep, infinity]", "command: [sriov-network-config-daemon]", "command: [sleep, infinity]").Replace(string(theirs)))
	// What runs of theirs is a program that does nothing: their images are not here. Nobody
	// reconciles the daemons then, which have what the last of the two wrote.
	e.until("theirs runs alone", func() bool {
		return images("name=sriov-network-operator") == cluster.BusyboxImage && images("app=sriov-network-operator") == ""
	})
	require.Equal(t, before, picture())

	t.Log("ours over theirs")
	e.kubectl("apply", "-k", filepath.Join(checkout, "operator/config"))
	e.until("their rights and daemons are gone", func() bool {
		left := e.get("clusterroles", "-o", "name") + images("app=sriov-network-config-daemon")
		return !strings.Contains(left, "sriov-network-config-daemon") && !strings.Contains(left, cluster.BusyboxImage) && strings.Contains(left, "sriovkit/operator")
	})
	require.NoError(t, component.InstallOperator(e.ctx, e.Kubectl, checkout))
	require.Equal(t, before, picture())
	e.allocatable("node1", "openshift.io/nics", "4")
	e.run(pod{name: "next", networks: "red", resource: "openshift.io/nics"})
	require.NotEqual(t, e.device("rider", "openshift.io/nics"), e.device("next", "openshift.io/nics"))
}
