// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sriovkit/sriovkit/libsriov"
	"github.com/sriovkit/sriovkit/libsriov/event"
	"github.com/sriovkit/sriovkit/libsriov/link"
	"github.com/sriovkit/sriovkit/libsriov/sriovtest"
	"github.com/sriovkit/sriovkit/libsriov/vfstate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The tests in the node share its first two PFs, on which VFs are made once.
// Each takes VFs by a fixed index and leaves them as they were.
const (
	stateDir = "/var/lib/cni/sriov"
	numVFs   = 7
)

// hardware is the node's PFs and their VFs.
type hardware struct {
	host *libsriov.Host
	pfs  []libsriov.PF
}

var makeVFs = sync.OnceValues(func() (hardware, error) {
	h := hardware{}
	var err error
	if h.host, err = libsriov.Open("/"); err != nil {
		return h, err
	}
	snapshot, err := h.host.Snapshot()
	if err != nil {
		return h, err
	}
	c, err := link.Open(nil)
	if err != nil {
		return h, err
	}
	defer c.Close()
	for _, pf := range snapshot.PFs[:2] {
		l, err := c.ByParent(pf.Address)
		if err != nil {
			return h, err
		}
		if err := c.Set(l.Index, link.Update{Up: new(true)}); err != nil {
			return h, err
		}
		if err := setNumVFs(context.Background(), h.host, pf.Address, numVFs); err != nil {
			return h, err
		}
		made, err := h.host.PF(pf.Address)
		if err != nil {
			return h, err
		}
		h.pfs = append(h.pfs, made)
	}
	return h, nil
})

// needVF returns a VF by the index of its PF and its own.
func needVF(t *testing.T, pf, index int) vf {
	t.Helper()
	sriovtest.NeedNode(t)
	h, err := makeVFs()
	require.NoError(t, err)
	v, err := h.host.VF(h.pfs[pf].VFs[index].Address)
	require.NoError(t, err)
	sriovtest.AwaitCarrier(t, v.PF) // igb accepts a rate only then
	return vf{VF: v, host: h.host}
}

type vf struct {
	libsriov.VF
	host *libsriov.Host
}

// picture is all of a VF that a pod may leave changed.
type picture struct {
	Admin    vfstate.State
	Driver   string
	Link     *linkPicture // nil: no interface in the host's namespace
	PFFlags  uint32
	StateDir []string
}

type linkPicture struct {
	Index    int
	Name     string
	MAC      string
	MTU      int
	Flags    uint32
	AltNames []string
	Alias    string
}

const settableFlags = unix.IFF_UP | unix.IFF_PROMISC | unix.IFF_ALLMULTI

func (v vf) picture(t *testing.T) picture {
	t.Helper()
	c, err := link.Open(nil)
	require.NoError(t, err)
	defer c.Close()
	pf, err := c.ByParent(v.PF)
	require.NoError(t, err)
	p := picture{PFFlags: pf.Flags & settableFlags}
	require.EventuallyWithT(t, func(ct *assert.CollectT) { // a VF that resets is not reported by every PF
		p.Admin, err = c.VFState(pf.Index, v.Index)
		require.NoError(ct, err)
	}, patience, 20*time.Millisecond)
	p.Driver, err = v.host.Driver(v.Address)
	require.NoError(t, err)
	if l, err := c.ByParent(v.Address); err == nil {
		slices.Sort(l.AltNames)
		p.Link = &linkPicture{l.Index, l.Name, l.MAC.String(), l.MTU, l.Flags & settableFlags, l.AltNames, l.Alias}
	} else {
		require.ErrorIs(t, err, link.ErrNotFound)
	}
	p.StateDir = stateFiles(t, v.Address.String())
	return p
}

// stateFiles lists the state files that concern a VF, but for its lock.
func stateFiles(t *testing.T, address string) []string {
	t.Helper()
	var files []string
	for _, dir := range []string{"", "pci", "vf"} {
		entries, err := os.ReadDir(filepath.Join(stateDir, dir))
		if err != nil {
			require.ErrorIs(t, err, os.ErrNotExist)
			continue
		}
		for _, e := range entries {
			path := filepath.Join(stateDir, dir, e.Name())
			b, _ := os.ReadFile(path)
			if !e.IsDir() && (strings.Contains(e.Name(), address) || bytes.Contains(b, []byte(address))) {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
	}
	return files
}

// unchanged compares the VF with an earlier picture when the test ends.
func (v vf) unchanged(t *testing.T) {
	t.Helper()
	before := v.picture(t)
	require.Empty(t, before.StateDir, "an earlier test left state")
	require.NotNil(t, before.Link, "an earlier test left the VF without an interface")
	t.Cleanup(func() { v.is(t, before) })
}

func (v vf) is(t *testing.T, want picture) {
	t.Helper()
	if diff := cmp.Diff(want, v.picture(t)); diff != "" {
		t.Errorf("VF %s is not as it was (-before +after):\n%s", v.Address, diff)
	}
}

// podNS is a pod, as far as this plugin sees one: a network namespace.
type podNS struct {
	id, path string
	*link.Conn
}

var pods atomic.Int64

func newPod(t *testing.T) podNS {
	t.Helper()
	n := pods.Add(1)
	p := podNS{id: fmt.Sprintf("%064x", 0xc0ffee00+n)}
	name := fmt.Sprintf("pod%d", n)
	p.path = "/run/netns/" + name
	ip(t, "netns", "add", name)
	f, err := os.Open(p.path)
	require.NoError(t, err)
	defer f.Close()
	p.Conn, err = link.Open(f)
	require.NoError(t, err)
	p.ip(t, "link", "set", "lo", "up")
	t.Cleanup(func() {
		p.Close()
		_ = exec.Command("ip", "netns", "del", name).Run() // the test may have done so
	})
	return p
}

// end removes the namespace, as the end of a pod's last process does.
func (p podNS) end(t *testing.T) {
	t.Helper()
	p.Close() // a socket keeps a namespace alive
	ip(t, "netns", "del", filepath.Base(p.path))
}

func (p podNS) ip(t *testing.T, args ...string) string {
	t.Helper()
	return ip(t, append([]string{"-n", filepath.Base(p.path)}, args...)...)
}

func ip(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	require.NoError(t, err, "ip %s: %s", strings.Join(args, " "), out)
	return string(out)
}

// call is one run of the plugin.
type call struct {
	command string
	pod     podNS
	ifname  string
	netns   *string // instead of the pod's
	conf    map[string]any
	args    string // CNI_ARGS
	path    string // CNI_PATH, before the suite's own
	view    string // mount namespace to run in; "" is the test's own
}

// noneValid is what GC is told when nothing is to stay.
var noneValid = map[string]any{"cniVersion": "1.1.0", "cni.dev/valid-attachments": []any{}}

// answer is what a run printed.
type answer struct {
	exit   int
	stdout string
	stderr string

	Code       uint   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details"`
	CNIVersion string `json:"cniVersion"`
	Interfaces []struct {
		Name, Mac, Sandbox, PciID string
		Mtu                       int
	} `json:"interfaces"`
	IPs []struct {
		Address, Gateway string
		Interface        *int
	} `json:"ips"`
	SupportedVersions []string `json:"supportedVersions"`
}

func (c call) cmd() *exec.Cmd {
	conf := map[string]any{"cniVersion": "1.0.0", "name": "net-a", "type": "sriov"}
	maps.Copy(conf, c.conf)
	maps.DeleteFunc(conf, func(_ string, v any) bool { return v == nil })
	stdin, err := json.Marshal(conf)
	if err != nil {
		panic(err)
	}
	netns := c.pod.path
	if c.netns != nil {
		netns = *c.netns
	}
	if c.ifname == "" {
		c.ifname = "net1"
	}
	sriov, err := exec.LookPath("sriov")
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(sriov)
	if c.view != "" {
		cmd = exec.Command("nsenter", "--mount="+c.view, sriov)
	}
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+c.command, "CNI_CONTAINERID="+c.pod.id, "CNI_NETNS="+netns,
		"CNI_IFNAME="+c.ifname, "CNI_ARGS="+c.args, "CNI_PATH="+strings.TrimPrefix(c.path+":"+filepath.Dir(sriov), ":"))
	return cmd
}

func (c call) try(t *testing.T) answer {
	t.Helper()
	cmd := c.cmd()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exitErr := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exitErr) {
		t.Fatal(err)
	}
	a := answer{exit: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	if a.stdout != "" {
		d := json.NewDecoder(&stdout)
		require.NoError(t, d.Decode(&a), "stdout: %s\nstderr: %s", a.stdout, a.stderr)
		require.False(t, d.More(), "more than one document on stdout: %s", a.stdout)
	}
	return a
}

func (c call) ok(t *testing.T) answer {
	t.Helper()
	a := c.try(t)
	require.Zero(t, a.exit, "%s: stdout: %s\nstderr: %s", c.command, a.stdout, a.stderr)
	return a
}

func (c call) fails(t *testing.T, code uint, fragment string) answer {
	t.Helper()
	a := c.try(t)
	require.Equal(t, 1, a.exit, "%s: stdout: %s\nstderr: %s", c.command, a.stdout, a.stderr)
	require.Equal(t, code, a.Code, a.stdout)
	require.Contains(t, a.Msg, fragment)
	return a
}

// with is the call with other or further keys of the configuration.
func (c call) with(conf map[string]any) call {
	all := maps.Clone(c.conf)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, conf)
	c.conf = all
	return c
}

func (c call) as(command string) call {
	c.command = command
	return c
}

// attach is an ADD of a VF to a pod that DEL undoes when the test ends, if the
// test has not.
func attach(t *testing.T, v vf, pod podNS, conf map[string]any) (add, del call) {
	t.Helper()
	add = call{command: "ADD", pod: pod}.with(map[string]any{"deviceID": v.Address.String()}).with(conf)
	del = add.as("DEL")
	t.Cleanup(func() { del.ok(t) })
	return add, del
}

// patience only ends what would never happen.
const patience = 5 * time.Minute

// waitFor waits until an interface satisfies is.
func waitFor(t *testing.T, nsPath string, index int, is func(link.Link) bool) {
	t.Helper()
	var ns *os.File
	if nsPath != "" {
		var err error
		ns, err = os.Open(nsPath)
		require.NoError(t, err)
		defer ns.Close()
	}
	events, err := event.OpenLinks(ns)
	require.NoError(t, err)
	defer events.Close()
	c, err := link.Open(ns)
	require.NoError(t, err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		l, err := c.ByIndex(index)
		if err == nil && is(l) {
			return
		}
		_, err = events.Next(ctx)
		require.NoError(t, err, "waiting for interface %d: %+v", index, l)
	}
}

func mustMAC(s string) net.HardwareAddr {
	m, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

// prevResult is the result of an ADD as a runtime hands it to CHECK.
func prevResult(t *testing.T, a answer) map[string]any {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.stdout), &m))
	return m
}
