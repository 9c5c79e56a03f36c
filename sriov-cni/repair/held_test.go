// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
	"github.com/sriovkit/sriovkit/sriov-cni/vf"
)

// withoutFiles runs do while the process can open no file. Tests in parallel do not run
// meanwhile, unless this test is one.
func withoutFiles(t *testing.T, do func()) {
	var was unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was)) }()
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: was.Max}))
	do()
}

// A journal that cannot be read at this moment may be the one that names the VF.
func TestUnreadIsNotNone(t *testing.T) {
	s := state.Store{Dir: t.TempDir()}
	a := libsriov.Address{Bus: 1, Device: 16}
	owner := state.Attachment{ContainerID: "c0ffee", IfName: "net1"}
	j := state.Journal{Version: state.Version, Owner: owner, Network: "n", Device: a, NetNS: state.Namespace{Path: "/var/run/netns/x"}}
	require.NoError(t, os.MkdirAll(filepath.Dir(s.JournalPath(a)), 0o700))
	require.NoError(t, state.Save(s.JournalPath(a), j))
	r, c := Repairer{Store: s}, Claimant{Attachment: owner}
	withoutFiles(t, func() {
		_, found, err := r.Attribute(state.Record{}, c)
		require.False(t, found)
		require.ErrorIs(t, err, unix.EMFILE)
		has, err := r.hasInPod(Claimant{NetNS: "/proc/self/ns/net"}, a)
		require.False(t, has)
		require.ErrorIs(t, err, unix.EMFILE)
		_, err = r.onlyRecord(a, owner)
		require.ErrorIs(t, err, unix.EMFILE)
	})
	got, found, err := r.Attribute(state.Record{}, c)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, a, got)

	// Of what is damaged or gone all is known that there is to know.
	require.NoError(t, os.WriteFile(s.JournalPath(a), []byte("{"), 0o600))
	_, found, err = r.Attribute(state.Record{}, c)
	require.NoError(t, err)
	require.False(t, found)
}

// A VF is not another pod's for a namespace that was found at the same path in a boot before,
// with the same number.
func TestNamespaceOfFormerBoot(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{"sys/bus/pci/devices/0000:01:10.0/x": "", "proc/sys/kernel/random/boot_id": "now\n"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o600))
	}
	h, err := vf.Open(root, vf.NodeConfig{})
	require.NoError(t, err)
	r := Repairer{Host: h, Store: state.Store{Dir: t.TempDir()}}
	a := libsriov.Address{Bus: 1, Device: 16}
	ns, space, err := state.Namespace{Path: "/proc/self/ns/net"}.Open()
	require.NoError(t, err)
	require.NoError(t, ns.Close())
	require.NoError(t, state.Write(r.Store.MarkerPath(a), []byte(space.Path)))
	for boot, busy := range map[string]bool{"now": true, "before": false, "": true} {
		j := state.Journal{
			Version: state.Version, Owner: state.Attachment{ContainerID: "c0ffee", IfName: "net1"}, Network: "n", Device: a, NetNS: space,
			Identity: state.Identity{Boot: boot, Inode: 1},
		}
		require.NoError(t, state.Save(r.Store.JournalPath(a), j))
		_, _, err := r.former(a)
		require.Equal(t, busy, err != nil, boot)
	}
}

// A marker names a pod and not an interface of it: another attachment of the pod, whose record
// names the VF, keeps it.
func TestMarkerOfAnotherInterface(t *testing.T) {
	t.Parallel()
	s := state.Store{Dir: t.TempDir()}
	a := libsriov.Address{Bus: 1, Device: 16}
	r, net2 := Repairer{Store: s}, Claimant{Attachment: state.Attachment{ContainerID: "c0ffee", IfName: "net2"}, NetNS: "/var/run/netns/x"}
	require.NoError(t, state.Write(s.MarkerPath(a), []byte(net2.NetNS)))
	for record, want := range map[string]bool{`{"name":"n","deviceID":"0000:01:10.0"}`: false, `{"name":"n","deviceID":"0000:01:10.1"}`: true, `{`: true} {
		require.NoError(t, os.WriteFile(filepath.Join(s.Dir, "c0ffee-net1"), []byte(record), 0o600))
		_, found, err := r.Attribute(state.Record{}, net2)
		require.NoError(t, err)
		require.Equal(t, want, found, record)
	}
}
