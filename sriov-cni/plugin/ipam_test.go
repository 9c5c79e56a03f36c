// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/sriovkit/sriovkit/sriov-cni/internal/delegate"
	"github.com/sriovkit/sriovkit/sriov-cni/state"
	"github.com/stretchr/testify/require"
)

// host is a host without any device, with an IPAM plugin "spy" that writes down each command
// that it was run for.
type host struct {
	Plugin
	spied string
}

func newHost(t *testing.T) host {
	t.Helper()
	dir := t.TempDir()
	h := host{Plugin{Root: filepath.Join(dir, "root"), StateDir: filepath.Join(dir, "state"), Stdout: io.Discard, Stderr: io.Discard}, filepath.Join(dir, "spied")}
	require.NoError(t, os.MkdirAll(h.StateDir, 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(h.Root, "sys/bus/pci/devices"), 0o700))
	h.install(t, dir, "spy", `echo "$CNI_COMMAND $CNI_CONTAINERID" >>`+h.spied)
	t.Setenv("CNI_PATH", dir)
	return h
}

func (host) install(t *testing.T, dir, name, script string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
}

// run is a call for container c1 with a configuration; keys are further ones of it.
func (h host) run(t *testing.T, command, keys string) error {
	t.Helper()
	t.Setenv("CNI_COMMAND", command)
	args := &skel.CmdArgs{ContainerID: "c1", IfName: "net1", StdinData: []byte(
		`{"cniVersion":"1.1.0","name":"n","type":"sriov","deviceID":"0000:af:06.0","cni.dev/valid-attachments":[],` + keys + `}`)}
	f := h.Funcs(t.Context())
	return map[string]func(*skel.CmdArgs) error{"ADD": f.Add, "DEL": f.Del, "GC": f.GC, "STATUS": f.Status}[command](args)
}

// record puts the record of an attachment with a lease of a plugin into the state directory.
// Each is to name a VF of its own, for a call's locks last as long as its process.
func (h host) record(t *testing.T, containerID, device, ipam string) {
	t.Helper()
	text := fmt.Sprintf(`{"name":"n","deviceID":%q,"ipam":{"type":%q}}`, device, ipam)
	require.NoError(t, os.WriteFile(filepath.Join(h.StateDir, containerID+"-net1"), []byte(text), 0o600))
}

// said is what the spy wrote down since it was asked last.
func (h host) said(t *testing.T) string {
	t.Helper()
	b, _ := os.ReadFile(h.spied)
	_ = os.Remove(h.spied)
	return string(b)
}

func requireCode(t *testing.T, code uint, err error) {
	t.Helper()
	var e *types.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, code, e.Code, err)
}

// No command runs an IPAM plugin with files that ADD refuses, except DEL for what it has leased.
func TestRefusedFilesReachNoIPAMPlugin(t *testing.T) {
	h := newHost(t)
	const good, refused = `"ipam":{"type":"spy","log_file":"/tmp/x"}`, `"ipam":{"type":"spy","log_file":"/etc/profile.d/z.sh"}`
	requireCode(t, types.ErrInvalidNetworkConfig, h.run(t, "ADD", refused))
	for command, said := range map[string]string{"DEL": "DEL c1\n", "GC": "GC \n", "STATUS": "STATUS \n"} {
		t.Setenv("CNI_CONTAINERID", "")
		require.NoError(t, h.run(t, command, good))
		require.Equal(t, said, h.said(t))
		err := h.run(t, command, refused)
		require.Empty(t, h.said(t), command)
		if command != "STATUS" {
			require.NoError(t, err, command)
			continue
		}
		requireCode(t, 50, err)
		require.ErrorContains(t, err, "ipam.log_file")
	}

	h.record(t, "c1", "0000:af:06.1", "spy") // of a version that took it
	require.NoError(t, h.run(t, "DEL", refused))
	require.Equal(t, "DEL c1\n", h.said(t))
	require.NoFileExists(t, filepath.Join(h.StateDir, "c1-net1"))
	h.record(t, "c1", "0000:af:06.2", "host-local") // the network names another plugin by now
	require.NoError(t, h.run(t, "DEL", refused))
	require.Empty(t, h.said(t))
	h.record(t, "c2", "0000:af:06.3", "spy")
	require.NoError(t, h.run(t, "GC", refused))
	require.Equal(t, "DEL c2\n", h.said(t))
}

// An ADD that fails leaves the record of an earlier one, which gave the same attachment another
// VF: networks may name the pod's interface alike.
func TestFailedADDKeepsAnotherDevicesRecord(t *testing.T) {
	h := newHost(t)
	const mine, other = "0000:af:06.1", "0000:af:06.2"
	args := &skel.CmdArgs{ContainerID: "c1", IfName: "net1", StdinData: []byte(`{"cniVersion":"1.1.0","name":"n","type":"sriov"}`)}
	c, err := h.begin("ADD", args)
	require.NoError(t, err)
	j := state.Journal{Version: state.Version, Owner: c.attachment()}
	for device, left := range map[string]bool{other: true, mine: false} {
		h.record(t, "c1", device, "")
		require.NoError(t, j.Device.UnmarshalText([]byte(mine)))
		require.NoError(t, c.undo(t.Context(), j))
		require.Equal(t, left, state.Exists(c.store.RecordPath(j.Owner)))
	}
}

// An ADD that found no IPAM plugin left nothing, so DEL succeeds without it.
func TestDelOfAPluginThatIsNotThere(t *testing.T) {
	h := newHost(t)
	for _, ipam := range []string{"hostlocal", "host/local"} {
		require.NoError(t, h.run(t, "DEL", `"ipam":{"type":"`+ipam+`"}`))
	}
	h.record(t, "c1", "0000:af:06.1", "hostlocal")
	requireCode(t, cnierr.IPAM, h.run(t, "DEL", `"ipam":{"type":"hostlocal"}`))
}

// An IPAM plugin that hangs at DEL does not keep the VF.
func TestHangingIPAMPluginKeepsNoVF(t *testing.T) {
	h := newHost(t)
	limit := delegate.Limits["DEL"]
	defer func() { delegate.Limits["DEL"] = limit }()
	delegate.Limits["DEL"] = 100 * time.Millisecond
	h.install(t, os.Getenv("CNI_PATH"), "spy", "exec sleep 1000")
	a := libsriov.Address{Bus: 0xaf, Device: 6, Function: 4}
	store := state.Store{Dir: h.StateDir}
	j := state.Journal{Version: state.Version, Owner: state.Attachment{ContainerID: "c1", IfName: "net1"}, Network: "n", Device: a, NetNS: state.Namespace{Path: "/x"}}
	require.NoError(t, state.Save(store.JournalPath(a), j))
	err := h.run(t, "DEL", `"ipam":{"type":"spy"}`)
	requireCode(t, cnierr.IPAM, err)
	require.ErrorContains(t, err, "it took longer than 100ms")
	require.NoFileExists(t, store.JournalPath(a), "the VF is not taken back")
}

// DEL restores the VF even if the network's configuration has become too large to be read.
func TestDelOfANetworkBeyondBounds(t *testing.T) {
	h := newHost(t)
	for i, keys := range []string{
		`"ipam":{"type":"spy","x":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`,
		`"ipam":{"type":"spy","log_file":"/etc/x"},"x":{` + strings.Repeat(`"a":{`, 9000) + strings.Repeat("}", 9001),
		`"ipam":{"type":"spy"},"x":"` + strings.Repeat("x", 300_000) + `"`,
	} {
		h.record(t, "c1", fmt.Sprintf("0000:af:06.%d", i), "spy")
		require.NoError(t, h.run(t, "DEL", keys), "%.60s", keys)
		require.Equal(t, "DEL c1\n", h.said(t), "%.60s", keys)
		require.NoFileExists(t, filepath.Join(h.StateDir, "c1-net1"))
	}
}

// Errors are short, however long the texts of a network or an IPAM plugin that they quote.
func TestErrorsAreBounded(t *testing.T) {
	h := newHost(t)
	digits := strings.Repeat("7", 200_000)
	for _, keys := range []string{
		`"vlan":` + digits, `"vlan":-` + digits, `"mac":"` + digits + `"`, `"` + digits + `":{"a":null}`,
		strings.Repeat(`"VLAN":1,`, 20_000) + `"VLAN":1`, strings.Repeat(`"vlan":1,`, 20_000) + `"vlan":1`,
		`"ipam":{"type":"` + digits + `"}`, `"ipam":{"type":"spy","x":[` + strings.Repeat(`"/etc/x",`, 20_000) + `""]}`,
	} {
		err := h.run(t, "ADD", keys)
		require.Error(t, err)
		require.Less(t, len(err.Error()), 9000, "%.60s", keys)
	}
	long := filepath.Join(t.TempDir(), "long")
	require.NoError(t, os.WriteFile(long, []byte(`{"code":7,"msg":"`+digits+`","details":"`+digits+`"}`), 0o600))
	h.install(t, os.Getenv("CNI_PATH"), "spy", "cat "+long+"; exit 1")
	err := h.run(t, "DEL", `"ipam":{"type":"spy"}`)
	require.ErrorContains(t, err, "777")
	require.Less(t, len(err.Error()), 9000)
}
