// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Multus-shim comes, is upgraded, gets another primary network and goes, with pods from
// before each step. Whoever saw a pod's ADD sees its DEL, once, and no GC of anybody
// takes from a pod that lives.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	for _, kind := range names() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, kind)
			before := n.setUp("before", "", "ADD primary eth0")

			n.install("v1", "primary")
			assert.Subset(t, n.collect(), runtimes[kind].asks, "the runtime tells how the pod from before is attached")
			installed := n.setUp("installed", "extra", "ADD primary eth0", "ADD extra net1")
			gone := n.setUp("gone", "", "ADD primary eth0")
			n.tearDown(before, "DEL primary eth0")

			n.stop()
			n.install("v2", "primary")
			n.tearDown(gone, "DEL primary eth0")
			upgraded := n.setUp("upgraded", "extra,extra", "ADD primary eth0", "ADD extra net1", "ADD extra net2")
			n.collect()

			n.changePrimary()
			changed := n.setUp("changed", "extra", "ADD other eth0", "ADD extra net1")
			last := n.setUp("last", "", "ADD other eth0")
			n.tearDown(installed, "DEL extra net1", "DEL primary eth0")
			n.tearDown(upgraded, "DEL extra net2", "DEL extra net1", "DEL primary eth0")
			n.tearDown(changed, "DEL extra net1", "DEL other eth0")

			n.uninstall()
			n.collect()
			n.tearDown(last, "DEL other eth0")
			after := n.setUp("after", "extra", "ADD other eth0")
			n.tearDown(after, "DEL other eth0")
			assert.Equal(t, runtimes[kind].left, n.left())
		})
	}
}

// changePrimary puts another primary network in the place of the first.
func (n *node) changePrimary() {
	n.t.Helper()
	n.write("20-other.conflist", n.config("other"))
	if err := os.Remove(n.path("net.d", "10-primary.conflist")); !os.IsNotExist(err) { // it may be renamed
		require.NoError(n.t, err)
	}
	n.inForce("other")
}

// uninstall deletes the DaemonSet, and the installer with it.
func (n *node) uninstall() {
	n.t.Helper()
	<-n.api.watched
	n.api.deleteDaemonSet()
	n.stop()
	require.NoFileExists(n.t, n.path("net.d", "00-multus.conflist"))
	n.runtime.load(n.t)
}

// left are the files in which multus-shim remembers pods.
func (n *node) left() []string {
	n.t.Helper()
	var files []string
	for _, dir := range []string{"records", "results"} {
		entries, err := os.ReadDir(n.path("state", dir))
		require.NoError(n.t, err)
		for _, e := range entries {
			files = append(files, e.Name())
		}
	}
	return files
}
