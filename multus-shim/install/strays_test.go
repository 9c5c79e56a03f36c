// SPDX-License-Identifier: Apache-2.0

package install

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What lies where our files belong is replaced; it is neither followed nor waited for.
func TestReplacesWhatIsNoFile(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*node) error{
		"configuration is a link": func(n *node) error {
			n.write("elsewhere", "of others")
			return os.Symlink("../elsewhere", n.path("net.d/"+singleName))
		},
		"configuration leads nowhere": func(n *node) error { return os.Symlink("/nonexistent", n.path("net.d/"+singleName)) },
		"configuration is a pipe":     func(n *node) error { return syscall.Mkfifo(n.path("net.d/"+singleName), 0o600) },
		"the other name is a pipe":    func(n *node) error { return syscall.Mkfifo(n.path("net.d/"+listName), 0o600) },
		"token is a link": func(n *node) error {
			n.write("elsewhere", "of others")
			require.NoError(n.t, os.Mkdir(n.path("net.d/multus.d"), 0o700))
			return os.Symlink("../../elsewhere", n.path("net.d/multus.d/token"))
		},
		"token is a pipe": func(n *node) error {
			require.NoError(n.t, os.Mkdir(n.path("net.d/multus.d"), 0o700))
			return syscall.Mkfifo(n.path("net.d/multus.d/token"), 0o600)
		},
		"binary is a link": func(n *node) error {
			n.write("elsewhere", "of others")
			return os.Symlink("../elsewhere", n.path("bin/multus"))
		},
		"binary is a pipe":        func(n *node) error { return syscall.Mkfifo(n.path("bin/multus"), 0o755) },
		"a pipe beside the files": func(n *node) error { return syscall.Mkfifo(n.path("net.d/05-pipe.conf"), 0o600) },
		"a file without an end":   func(n *node) error { return os.Symlink("/dev/zero", n.path("net.d/05-zero.conf")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.write("net.d/10-calico.conflist", calico)
			require.NoError(t, prepare(n))
			require.NoError(t, n.once())
			assert.Equal(t, "k8s-pod-network", primaryOf(n))
			assert.Equal(t, "token-1", n.read("net.d/multus.d/token"))
			for _, file := range []string{"net.d/" + singleName, "net.d/multus.d/token", "bin/multus"} {
				info, err := os.Lstat(n.path(file))
				require.NoError(t, err)
				assert.True(t, info.Mode().IsRegular(), file)
			}
			assert.NoFileExists(t, n.path("net.d/"+listName))
			if _, err := os.Stat(n.path("elsewhere")); err == nil {
				assert.Equal(t, "of others", n.read("elsewhere"))
			}
		})
	}
}

// What cannot be put right is an error that names it, and the node stays as it is.
func TestWhatCannotBeReplaced(t *testing.T) {
	t.Parallel()
	full := func(path string) func(*node) {
		return func(n *node) {
			require.NoError(n.t, os.RemoveAll(n.path(path)))
			require.NoError(n.t, os.Mkdir(n.path(path), 0o755))
			n.write(path+"/file", "of others")
		}
	}
	for want, spoil := range map[string]func(*node){
		singleName: full("net.d/" + singleName),
		"multus.d": func(n *node) {
			require.NoError(n.t, os.RemoveAll(n.path("net.d/multus.d")))
			n.write("net.d/multus.d", "of others")
		},
		"bin/multus":      full("bin/multus"),
		"token is empty":  func(n *node) { n.write("sa/token", "") },
		"token":           func(n *node) { require.NoError(n.t, os.Remove(n.path("sa/token"))) },
		"ca.crt is empty": func(n *node) { n.write("sa/ca.crt", "\n") },
		"multus-shim":     func(n *node) { require.NoError(n.t, os.Remove(n.path("multus-shim"))) },
	} {
		n := newNode(t)
		n.write("net.d/10-calico.conflist", calico)
		require.NoError(t, n.once())
		spoil(n)
		before := n.list("net.d")
		require.ErrorContains(t, n.once(), want)
		assert.Equal(t, before, n.list("net.d"), want)
		if want != "multus.d" {
			assert.Equal(t, "token-1", n.read("net.d/multus.d/token"), want)
		}
		if want != singleName {
			assert.Equal(t, "k8s-pod-network", primaryOf(n), want)
		}
	}
}

// A disk that is full or cannot be written leaves what is there, and no halves of files.
func TestDiskThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*node) error{
		"full": func(n *node) error {
			n.write("net.d/large", strings.Repeat("0", 1<<20-32<<10))
			_ = os.WriteFile(n.path("net.d/rest"), make([]byte, 1<<20), 0o600) // as much as there is room for
			return nil
		},
		"read-only": func(n *node) error {
			return unix.Mount("", n.path("net.d"), "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		},
	} {
		n := newNode(t)
		require.NoError(t, unix.Mount("tmpfs", n.path("net.d"), "tmpfs", 0, "size=1m"))
		t.Cleanup(func() { _ = unix.Unmount(n.path("net.d"), unix.MNT_DETACH) })
		n.write("net.d/10-calico.conflist", calico)
		require.NoError(t, n.once(), name)
		require.NoError(t, spoil(n), name)
		before := n.list("net.d")
		n.token("token-2")
		require.Error(t, n.once(), name)
		assert.Equal(t, before, n.list("net.d"), name)
		assert.Equal(t, []string{"multus.kubeconfig", "token"}, n.list("net.d/multus.d"), name)
		assert.Equal(t, "token-1", n.read("net.d/multus.d/token"), name)
		assert.Equal(t, "k8s-pod-network", primaryOf(n), name)
		require.NoError(t, unix.Mount("", n.path("net.d"), "", unix.MS_REMOUNT, "size=4m"))
		require.NoError(t, n.once(), name)
		assert.Equal(t, "token-2", n.read("net.d/multus.d/token"), name)
	}
}
