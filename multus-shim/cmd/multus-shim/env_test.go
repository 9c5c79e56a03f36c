// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/multus-shim/internal/apitest"
)

// The test binary is also the plugin under test and its delegate: whichever
// name it is started by.
func TestMain(m *testing.M) {
	switch name := filepath.Base(os.Args[0]); {
	case name == "multus-shim":
		main()
	case name == recorder || os.Getenv("CNI_COMMAND") != "": // any plugin's name may be linked to it
		if err := recorderMain(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		os.Exit(runTests(m))
	}
}

const (
	podNS   = "ns1"
	podName = "pod1"
	podUID  = "uid-1"
	waitFor = 5 * time.Minute // for what must happen, never for what must not
	tick    = 5 * time.Millisecond
	allCaps = `"capabilities":{"ips":true,"mac":true,"portMappings":true,"bandwidth":true,"infinibandGUID":true,"deviceID":true,"CNIDeviceInfoFile":true}`
)

// env is a node with one pod: an API server, a state directory, a network
// namespace, and a configuration with one default network called dflt.
type env struct {
	t         testing.TB
	api       *apitest.Server
	dir       string
	netns     string
	container string
	// conf is what the runtime passes on stdin.
	conf map[string]any
	// annotations of the pod, as the runtime passes them; nil for a runtime
	// that does not.
	annotations map[string]string
	args        string // CNI_ARGS
	environ     []string
}

func newEnv(t testing.TB) *env {
	t.Helper()
	dir := t.TempDir()
	e := &env{
		t: t, api: apitest.New(t), dir: dir, netns: newNetns(t), container: "c1",
		annotations: map[string]string{},
		args:        "IgnoreUnknown=1;K8S_POD_NAMESPACE=" + podNS + ";K8S_POD_NAME=" + podName + ";K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=" + podUID,
		environ:     []string{"RECORDER_LOG=" + filepath.Join(dir, "calls"), "CNI_PATH=" + filepath.Join(dir, "bin")},
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	for _, name := range []string{"multus-shim", recorder} {
		require.NoError(t, os.Symlink(program(t), filepath.Join(dir, "bin", name)))
	}
	e.conf = map[string]any{
		"cniVersion": "1.1.0", "name": "multus-net", "type": "multus-shim",
		"kubeconfig": e.api.Kubeconfig(), "cniDir": filepath.Join(dir, "state"), "confDir": filepath.Join(dir, "conf"),
		"binDir": filepath.Join(dir, "bin"), "kubeletDir": filepath.Join(dir, "kubelet"), "deviceInfoDir": filepath.Join(dir, "devinfo"),
		"logLevel": "debug",
	}
	e.delegate(`{"name":"dflt","type":"recorder","cniVersion":"1.1.0"}`)
	e.api.PutPod(podNS, podName, podUID, nil)
	return e
}

// newNetns makes a network namespace that lives as long as the test.
func newNetns(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "netns")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		ns, err := netns.New()
		if err == nil {
			defer ns.Close()
			err = unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
		}
		done <- err
	}()
	require.NoError(t, <-done)
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

// delegate sets the configuration's delegates.
func (e *env) delegate(confs ...string) {
	var list []json.RawMessage
	for _, c := range confs {
		list = append(list, json.RawMessage(c))
	}
	e.conf["delegates"] = list
}

// nad adds a NAD of the pod's namespace whose plugin is the recorder.
func (e *env) nad(name, members string) {
	if members != "" {
		members = "," + members
	}
	e.api.PutNAD(podNS, name, `{"cniVersion":"1.1.0","type":"recorder"`+members+`}`, nil)
}

// networks sets the networks annotation.
func (e *env) networks(value string) { e.annotations["k8s.v1.cni.cncf.io/networks"] = value }

// stdin is the configuration as the runtime sends it.
func (e *env) stdin(runtimeConfig map[string]any) []byte {
	e.t.Helper()
	conf := map[string]any{}
	for k, v := range e.conf {
		conf[k] = v
	}
	rc := map[string]any{}
	for k, v := range runtimeConfig {
		rc[k] = v
	}
	if e.annotations != nil {
		rc["io.kubernetes.cri.pod-annotations"] = e.annotations
	}
	conf["runtimeConfig"] = rc
	data, err := json.Marshal(conf)
	require.NoError(e.t, err)
	return data
}

// outcome is what a runtime sees of a command.
type outcome struct {
	Stdout, Stderr string
	Exit           int
	Err            *types.Error // nil on success
}

func (e *env) run(command string) outcome {
	e.t.Helper()
	return e.exec(command, e.stdin(nil))
}

func (e *env) exec(command string, stdin []byte, environ ...string) outcome {
	e.t.Helper()
	cmd := e.command(command, stdin, environ...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	out := outcome{Stdout: stdout.String(), Stderr: stderr.String(), Exit: cmd.ProcessState.ExitCode()}
	if err == nil {
		return out
	}
	require.Equal(e.t, 1, out.Exit, "%s\n%s", out.Stdout, out.Stderr)
	out.Err = &types.Error{}
	require.NoError(e.t, json.Unmarshal(stdout.Bytes(), out.Err), "an error is one JSON document: %q %s", out.Stdout, out.Stderr)
	require.NotZero(e.t, out.Err.Code)
	require.NotEmpty(e.t, out.Err.Msg)
	return out
}

func (e *env) command(command string, stdin []byte, environ ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(e.dir, "bin", "multus-shim"))
	cmd.Env = append(append(os.Environ(), e.environ...), "CNI_COMMAND="+command, "CNI_ARGS="+e.args,
		"CNI_CONTAINERID="+e.container, "CNI_NETNS="+e.netns, "CNI_IFNAME=eth0")
	cmd.Env = append(cmd.Env, environ...)
	cmd.Stdin = bytes.NewReader(stdin)
	return cmd
}

// must runs a command that has to succeed.
func (e *env) must(command string) outcome {
	e.t.Helper()
	out := e.run(command)
	require.Nil(e.t, out.Err, "%s: %v\n%s", command, out.Err, out.Stderr)
	return out
}

// mustFail runs a command that has to fail with a code and a text.
func (e *env) mustFail(command string, code uint, text string) outcome {
	e.t.Helper()
	out := e.run(command)
	require.NotNil(e.t, out.Err, "%s succeeded: %s", command, out.Stdout)
	require.Equal(e.t, code, out.Err.Code, out.Err.Msg)
	require.Contains(e.t, out.Err.Msg, text)
	return out
}

// calls returns what the delegates were called with since the last time.
func (e *env) calls() []invocation {
	e.t.Helper()
	path := filepath.Join(e.dir, "calls")
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(e.t, err)
	require.NoError(e.t, os.Remove(path))
	var calls []invocation
	for line := range strings.Lines(string(data)) {
		var call invocation
		require.NoError(e.t, json.Unmarshal([]byte(line), &call))
		calls = append(calls, call)
	}
	return calls
}

// names are calls as "COMMAND ifname".
func names(calls []invocation) []string {
	var out []string
	for _, c := range calls {
		out = append(out, c.String())
	}
	return out
}

// asked are the API requests so far as "METHOD last-part-of-path", sorted by
// the server's arrival.
func (e *env) asked() []string {
	var out []string
	for _, r := range e.api.Requests() {
		out = append(out, r.Method+" "+r.Path[strings.LastIndexByte(r.Path, '/')+1:])
	}
	return out
}

// status returns the entries of network-status.
func (e *env) status() []map[string]any {
	e.t.Helper()
	var entries []map[string]any
	text := e.api.Annotation(podNS, podName, "k8s.v1.cni.cncf.io/network-status")
	require.NotEmpty(e.t, text, "network-status is not written")
	require.NoError(e.t, json.Unmarshal([]byte(text), &entries))
	return entries
}

// leftovers lists the files of the state directory.
func (e *env) leftovers() []string {
	e.t.Helper()
	var files []string
	require.NoError(e.t, filepath.WalkDir(filepath.Join(e.dir, "state"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path != e.in("locks", "containers") { // which stays
			files = append(files, path)
		}
		return nil
	}))
	return files
}
