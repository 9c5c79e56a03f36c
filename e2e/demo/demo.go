// SPDX-License-Identifier: Apache-2.0

// Package demo shows sriovkit at work on a machine without SR-IOV hardware: a real
// control plane, an emulated node with two SR-IOV NICs, sriovkit installed from its
// own manifests, and pods that talk through VFs.
//
// The cluster belongs to a supervisor in the background (Supervise); Up is the
// foreground, which installs and measures with kubectl as anybody could, and can
// be run again; Down ends it all.
package demo

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/component"
	"github.com/sriovkit/sriovkit/e2e/picture"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

// waitTimeout is many times what a step takes, also on a machine that is busy with
// something else.
const waitTimeout = "5m"

//go:embed manifests
var manifests embed.FS

// Demo is the foreground of a demo.
type Demo struct {
	Out io.Writer
	// Picture is where a picture of the steps and the report goes, as SVG, when all
	// went well; empty for none.
	Picture string
	// Supervisor are the arguments with which this program calls Supervise; the
	// directory follows.
	Supervisor []string

	dir        string // of the running demo
	checkout   string
	programs   string // directory with kubectl
	supervisor *rpc.Client
	reused     bool     // the cluster stood already
	launched   bool     // this run has started it
	workloads  []string // that stand with another image than is loaded now
}

// Up brings the demo up, or up to date if it stands, and ends with a report. When
// ctx ends early what was started is taken down; a demo that stood before stays. After
// any other failure what stands stays, for a look at it, and the error says how.
func (d *Demo) Up(ctx context.Context) (err error) {
	if d.dir, err = Dir(); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Dir(d.Picture)); d.Picture != "" && err != nil {
		return fmt.Errorf("-picture: %w", err)
	}
	begun := time.Now()
	var pods []attachment
	var pings []ping
	var overview string
	steps := []struct {
		title string
		do    func(context.Context) error
	}{
		{"check this machine", d.check},
		{"build what nodes and clusters are made of, once", d.build},
		{"build the images of sriovkit, and kubectl sriov", d.images},
		{"start a control plane and a node with two SR-IOV NICs", d.start},
		{"load the images into the node", d.load},
		{"install multus-shim, the operator and, through it, the CNI and the device plugin", d.install},
		{"policies: VFs for interfaces on one port, VFs for vfio on the other", d.policies},
		{"networks: VLAN 100, VLAN 200, and one for vfio", d.networks},
		{"pods", d.pods},
		{"what the pods got", func(ctx context.Context) (err error) { pods, err = d.attachments(ctx); return err }},
		{"ping through the VFs", func(ctx context.Context) (err error) { pings, err = d.ping(ctx, pods); return err }},
		{"ask kubectl sriov", func(ctx context.Context) (err error) { overview, err = d.kubectl(ctx, nil, "sriov"); return err }},
	}
	shown := &strings.Builder{}
	fmt.Fprintln(shown, "$ make demo")
	pulse := newPulse(d.Out)
	defer pulse.stop()
	d.Out = pulse
	var titles []string
	for _, step := range steps {
		titles = append(titles, step.title)
	}
	paceFile := filepath.Join(filepath.Dir(d.dir), "demo-pace.json")
	if c := connect(d.dir); c != nil { // the first run on a cluster says nothing of the next
		c.Close()
		paceFile = filepath.Join(filepath.Dir(d.dir), "demo-pace-standing.json")
	}
	last, now := readPace(paceFile), pace{}
	for i, step := range steps {
		title := fmt.Sprintf("[%2d/%d] %s", i+1, len(steps), step.title)
		fmt.Fprintln(shown, title)
		fmt.Fprintf(d.Out, "%s%s\n", title, last.left(titles[i:]))
		stepBegun := time.Now()
		if err := step.do(ctx); err != nil {
			return d.failed(ctx, step.title, err)
		}
		now[step.title] = time.Since(stepBegun)
		fmt.Fprintf(d.Out, "        %.1f s\n", now[step.title].Seconds())
	}
	if err := now.write(paceFile); err != nil {
		return err
	}
	both := io.MultiWriter(d.Out, shown)
	report(both, pods, pings)
	fmt.Fprintf(both, "\n$ kubectl sriov\n%s", overview)
	fmt.Fprintf(d.Out, "\nAll of it took %.0f s. ", time.Since(begun).Seconds())
	d.goOn()
	if d.Picture == "" {
		return nil
	}
	f, err := os.Create(d.Picture)
	if err != nil {
		return err
	}
	return errors.Join(picture.Draw(f, shown.String()), f.Close())
}

// goOn prints what can be done with a demo that stands.
func (d *Demo) goOn() {
	fmt.Fprintf(d.Out, `The cluster stays until "make demo-down". To look around:

    export KUBECONFIG=%s PATH=%s:%s:$PATH
    kubectl get pods -A
    kubectl sriov why pod/red-1
    kubectl -n %s get sriovnetworknodepolicies,sriovnetworknodestates,sriovnetworks
    kubectl exec red-1 -- ip addr
    kubectl debug -it node/node1 --profile=sysadmin --image=sriovkit.local/busybox:v1 -- chroot /host bash
`, filepath.Join(d.dir, kubeconfigFile), d.programs, d.pluginDir(), component.Namespace)
}

func (d *Demo) failed(ctx context.Context, step string, err error) error {
	if ctx.Err() != nil && d.reused {
		fmt.Fprintln(d.Out, `interrupted; the demo that stood before stays until "make demo-down"`)
	}
	if ctx.Err() != nil && !d.launched {
		return context.Cause(ctx)
	}
	if ctx.Err() != nil {
		fmt.Fprintln(d.Out, "interrupted: taking everything down")
		return errors.Join(context.Cause(ctx), Down(d.Out))
	}
	if d.supervisor == nil {
		return fmt.Errorf("step %q: %w", step, err)
	}
	if warnings := d.warnings(ctx); warnings != "" {
		fmt.Fprintf(d.Out, "The last warnings of the cluster:\n%s", warnings)
	}
	var logs string
	if logErr := d.supervisor.Call("Demo.SaveLogs", struct{}{}, &logs); logErr != nil {
		err = errors.Join(err, logErr)
	}
	fmt.Fprintf(d.Out, "\n%s\n", logs)
	d.goOn()
	fmt.Fprintln(d.Out) // the error comes last: it is what one sees first
	return fmt.Errorf("step %q: %w", step, err)
}

// warnings are the cluster's newest: a pod that does not start
// and a policy that is refused have their reason there. (No cluster here has a DNS.)
func (d *Demo) warnings(ctx context.Context) string {
	const last = 10
	out, err := d.kubectl(ctx, nil, "get", "events", "-A", "--field-selector=type=Warning,reason!=MissingClusterDNS", "--sort-by=.lastTimestamp",
		"--no-headers", "-o", "custom-columns=:involvedObject.kind,:involvedObject.name,:reason,:message")
	if err != nil {
		return "" // the step's own error says what is wrong with the API server
	}
	lines := slices.Collect(strings.Lines(out))
	return strings.Join(lines[max(0, len(lines)-last):], "")
}

// check finds out what is missing before anything is built. Debian packages are no reason to
// stop: building installs them.
func (d *Demo) check(context.Context) error {
	const needMiB = 3500
	if os.Getuid() != 0 {
		return errors.New("not root: network namespaces and package installation need it; use sudo")
	}
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("this is %s: the emulated node is amd64", runtime.GOARCH)
	}
	available, err := availableMiB()
	if err != nil {
		return err
	}
	if available < needMiB {
		return fmt.Errorf("%d MiB of memory available, want %d: the node takes 2 GiB, the control plane 1", available, needMiB)
	}
	cache, err := stage.Open(io.Discard)
	if err != nil {
		return err
	}
	needDisk := 2e9
	if built, err := filepath.Glob(filepath.Join(cache.Dir, "kubernetes-*")); err == nil && len(built) == 0 {
		needDisk = 10e9 // with the caches of Go, which are usually on the same disk
	}
	return cache.Room(needDisk)
}

func (d *Demo) build(ctx context.Context) error {
	cache, err := stage.Open(indent{d.Out})
	if err != nil {
		return err
	}
	if err := artifact.BuildAll(ctx, cache); err != nil {
		return err
	}
	d.programs, err = artifact.BuildKubernetes(ctx, cache)
	return err
}

// imageDir is not that of make images, whose images make push takes: these are of one platform.
func (d *Demo) imageDir() string { return filepath.Join(d.checkout, "bin", "demo") }

func (d *Demo) images(ctx context.Context) (err error) {
	if d.checkout, err = component.Checkout(ctx); err != nil {
		return err
	}
	if err := component.Build(ctx, d.checkout, d.imageDir(), component.Tag, component.All...); err != nil {
		return err
	}
	return component.Compile(ctx, d.checkout, "operator", "./cmd/kubectl-sriov", filepath.Join(d.pluginDir(), "kubectl-sriov"), "linux/"+runtime.GOARCH, component.Tag)
}

// pluginDir has the plugin of kubectl.
func (d *Demo) pluginDir() string { return filepath.Join(d.checkout, "bin") }

func (d *Demo) start(ctx context.Context) (err error) {
	if d.supervisor = connect(d.dir); d.supervisor != nil {
		fmt.Fprintln(d.Out, "        one is running")
		d.reused = true
		return nil
	}
	d.supervisor, err = launch(ctx, d.dir, indent{d.Out}, d.Supervisor...)
	d.launched = !errors.Is(err, errRunning)
	return err
}

// call asks the supervisor, no longer than ctx.
func (d *Demo) call(ctx context.Context, method string, args, reply any) error {
	select {
	case c := <-d.supervisor.Go(method, args, reply, make(chan *rpc.Call, 1)).Done:
		return c.Error
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// load brings all images to the node at once: one processor of the node unpacks one.
func (d *Demo) load(ctx context.Context) error {
	changed := make([]bool, len(component.All))
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range component.All {
		group.Go(func() error { return d.call(ctx, "Demo.Import", c.Archive(d.imageDir()), &changed[i]) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, c := range component.All {
		if changed[i] && d.reused {
			d.workloads = append(d.workloads, workloads[c.Name]...)
		}
	}
	return nil
}

// workloads run a component or, the daemon, bring its program to the node.
var workloads = map[string][]string{
	"sriov-cni":     {"-n " + component.Namespace + " daemonset/sriov-network-config-daemon"},
	"device-plugin": {"-n " + component.Namespace + " daemonset/sriov-device-plugin"},
	"multus-shim":   {"-n kube-system daemonset/multus-shim"},
	"operator": {"-n " + component.Namespace + " deployment/sriov-network-operator",
		"-n " + component.Namespace + " daemonset/sriov-network-config-daemon"},
}

// restart makes what stands use the images just loaded: their names are the same.
func (d *Demo) restart(ctx context.Context) error {
	slices.Sort(d.workloads)
	for _, w := range slices.Compact(d.workloads) {
		fmt.Fprintln(d.Out, "        restarting", w)
		if _, err := d.kubectl(ctx, nil, append([]string{"rollout", "restart"}, strings.Fields(w)...)...); err != nil {
			return err
		}
	}
	return nil
}

func (d *Demo) install(ctx context.Context) error {
	if err := d.installAll(ctx); err != nil || len(d.workloads) == 0 {
		return err
	}
	if err := d.restart(ctx); err != nil {
		return err
	}
	return d.installAll(ctx) // to wait for them
}

// installAll installs at once what waits for other things: the node starts their pods.
func (d *Demo) installAll(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return component.InstallMultus(ctx, d.kubectl, d.checkout) })
	group.Go(func() error { return component.InstallOperator(ctx, d.kubectl, d.checkout) })
	return group.Wait()
}

// policies returns when the node offers the resources.
func (d *Demo) policies(ctx context.Context) error {
	if err := d.apply(ctx, "policies.yaml"); err != nil {
		return err
	}
	for _, wait := range []string{
		`node/node1 --for=jsonpath={.status.allocatable.openshift\.io/nics}=4`,
		`node/node1 --for=jsonpath={.status.allocatable.openshift\.io/dpdk}=2`,
	} {
		if err := d.wait(ctx, wait); err != nil {
			return err
		}
	}
	return nil
}

// networks returns when pods can refer to them.
func (d *Demo) networks(ctx context.Context) error {
	if err := d.apply(ctx, "networks.yaml"); err != nil {
		return err
	}
	for _, name := range []string{"vlan100", "vlan200", "dpdk"} { // kubectl waits for the creation of one object only
		if err := d.wait(ctx, "network-attachment-definitions.k8s.cni.cncf.io/"+name+" --for=create"); err != nil {
			return err
		}
	}
	return nil
}

func (d *Demo) pods(ctx context.Context) error {
	if err := d.apply(ctx, "pods.yaml"); err != nil {
		return err
	}
	return d.wait(ctx, "pods -l demo=sriovkit --for=condition=Ready")
}

func (d *Demo) apply(ctx context.Context, name string) error {
	text, err := manifests.ReadFile("manifests/" + name)
	if err != nil {
		return err
	}
	_, err = d.kubectl(ctx, bytes.NewReader(text), "apply", "-f", "-")
	return err
}

func (d *Demo) wait(ctx context.Context, what string) error {
	_, err := d.kubectl(ctx, nil, append(append([]string{"wait"}, strings.Fields(what)...), "--timeout="+waitTimeout)...)
	return err
}

func (d *Demo) kubectl(ctx context.Context, input io.Reader, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(d.programs, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(d.dir, kubeconfigFile), "PATH="+d.pluginDir()+":"+os.Getenv("PATH"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &stdout, &stderr
	slow := time.AfterFunc(time.Second, func() {
		fmt.Fprintln(d.Out, "        kubectl", strings.ReplaceAll(strings.Join(args, " "), d.checkout+"/", ""))
	})
	defer slow.Stop()
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}
