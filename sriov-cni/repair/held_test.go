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
