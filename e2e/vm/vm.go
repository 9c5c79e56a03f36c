// SPDX-License-Identifier: Apache-2.0

// Package vm boots emulated nodes: machines with SR-IOV NICs (Intel 82576, igb),
// an IOMMU with interrupt remapping, and Debian's kernel with its real drivers,
// made by QEMU, with KVM where that runs a guest and without any privilege elsewhere.
//
// A node has no network to the host unless asked for. The harness talks to the
// agent in it (e2e/cmd/agent) through a virtio serial port whose other end is a
// socket pair, so any number of nodes can run beside each other. QEMU dies with
// the process that booted it, however that ends, and its disk is a throw-away
// overlay: nothing stays behind.
package vm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/process"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

const (
	// bootTimeout is many times what booting takes on two cores that have ten other things to do.
	bootTimeout = 10 * time.Minute
	// An emulated machine can get stuck early in the kernel: one boot in fifty
	// did on an overloaded host (QEMU 10.0.2, kernel 6.12). Otherwise it prints something
	// every second or two.
	stuckAfter   = time.Minute
	bootAttempts = 3
	packagesDisk = "packages" // name of the disk with Config.Packages
	// diskRoom is more than nodes write in the tests.
	diskRoom = 2e9
)

var errStuck = fmt.Errorf("nothing on the console for %s", stuckAfter)

// errCrashed is QEMU's own fault: with seven ports and a busy host one boot in eight
// ended in an assertion about the memory of a device (iotlb_to_section, QEMU 10.0.2).
var errCrashed = errors.New("QEMU crashed")

// VM is a running node. Its methods may be called concurrently.
type VM struct {
	Name        string
	ConsolePath string // what the node prints; deleted by Close

	config  Config
	program artifact.Program
	accel   accel
	port    *net.UnixAddr // of the agent
	client  *ssh.Client
	scratch *process.Scratch
	console *console
	qemu    *exec.Cmd
	exited  chan struct{}
	exitErr error // valid once exited is closed

	monitorLock sync.Mutex
	monitor     *monitor
}

// Boot builds what is missing and starts a node. It returns when the agent
// answers and the drivers are loaded, and fails at once when the node reports
// that it will not get there. Close the VM in any case but an error.
func Boot(ctx context.Context, c Config) (*VM, error) {
	if err := c.complete(); err != nil {
		return nil, fmt.Errorf("node %s: %w", c.Name, err)
	}
	cache, err := stage.Open(c.Log)
	if err != nil {
		return nil, err
	}
	node, err := artifact.BuildNode(ctx, cache, c.Kernel)
	if err != nil {
		return nil, err
	}
	program := artifact.InstalledQEMU
	if c.VirtioPFs > 0 {
		if program, err = artifact.BuildQEMU(ctx, cache); err != nil {
			return nil, fmt.Errorf("node %s: a QEMU with virtio ports that have SR-IOV: %w", c.Name, err)
		}
	}
	if len(c.Packages) > 0 {
		image, err := artifact.BuildPackages(ctx, cache, c.Packages...)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", c.Name, err)
		}
		c.Disks = maps.Clone(c.Disks)
		if c.Disks == nil {
			c.Disks = map[string]string{}
		}
		c.Disks[packagesDisk] = image
	}
	if err := cache.Room(diskRoom); err != nil {
		return nil, fmt.Errorf("boot %s: %w", c.Name, err)
	}
	a, err := chooseAccel(ctx, cache, node, program)
	if err != nil {
		return nil, err
	}
	a.announce(c.Log)
	end := c.Fabric.end()
	for attempt := 1; ; attempt++ {
		v, err := bootOnce(ctx, c, cache, node, program, a, end)
		if !errors.Is(err, errStuck) && !errors.Is(err, errCrashed) || attempt == bootAttempts {
			return v, err
		}
		fmt.Fprintf(c.Log, "%v\n%s: trying again\n", err, c.Name)
	}
}

func bootOnce(ctx context.Context, c Config, cache *stage.Cache, node artifact.Node, program artifact.Program, a accel, end *fabricEnd) (*VM, error) {
	scratch, err := process.NewScratch(filepath.Join(cache.Dir, "run"), c.Name)
	if err != nil {
		return nil, err
	}
	v := &VM{
		Name:        c.Name,
		ConsolePath: filepath.Join(scratch.Dir, "console.log"),
		config:      c,
		program:     program,
		accel:       a,
		scratch:     scratch,
		exited:      make(chan struct{}),
	}
	if err := v.boot(ctx, node, end); err != nil {
		if ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("boot %s: %w", c.Name, err), v.Close())
		}
		if v.crashed() {
			err = fmt.Errorf("%w: %w", errCrashed, err)
		}
		kept, keepErr := cache.KeepLogs(c.Name, v.ConsolePath)
		err = fmt.Errorf("boot %s: %w\n%s", c.Name, err, process.Tail(filepath.Join(kept, filepath.Base(v.ConsolePath))))
		return nil, errors.Join(err, keepErr, v.Close())
	}
	return v, nil
}

func (v *VM) boot(ctx context.Context, node artifact.Node, end *fabricEnd) (err error) {
	begun := time.Now()
	if v.console, err = newConsole(v.ConsolePath, v.Name, v.config.Log); err != nil {
		return err
	}
	agent, err := v.listen()
	if err != nil {
		return err
	}
	defer agent.Close()
	control, err := socketPair("monitor")
	if err != nil {
		return err
	}
	v.monitor, err = newMonitor(control[0])
	control[0].Close()
	defer control[1].Close()
	if err != nil {
		return err
	}
	if err := v.start(newMachine(v.config, node, v.accel, agent, control[1], end)); err != nil {
		return err
	}
	if err := v.meet(ctx); err != nil {
		return err
	}
	fmt.Fprintf(v.config.Log, "%s: up after %.1fs, kernel %s, %d igb ports, %s\n", v.Name, time.Since(begun).Seconds(), node.Release, v.config.PFs, v.accel.how)
	return nil
}

// listen returns the socket at which QEMU waits for the harness, which becomes
// the agent's port. The kernel chooses its name, it is in no file system, and
// QEMU takes one connection at a time.
func (v *VM) listen() (*os.File, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	v.port = l.Addr().(*net.UnixAddr)
	return l.File()
}

// meet waits for the agent and prepares the node.
func (v *VM) meet(ctx context.Context) error {
	conn, err := net.DialUnix("unix", nil, v.port)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, fmt.Errorf("no answer from the agent within %s", bootTimeout))
	defer cancel()
	if err := v.handshake(ctx, conn); err != nil {
		return err
	}
	go v.keepAwake(v.client)
	return v.settle(ctx)
}

// niceness is that of nodes that tests of hardware run in, beside much else. igbvf gives its
// PF 100 ms to answer, and goes on with another idea of its MAC if it does not; a processor
// of the node may be kept from running longer than that. Nodes of clusters have the same as
// the programs on this machine that they wait for.
const niceness = -10

func (v *VM) start(m *machine) error {
	v.qemu = exec.Command(v.program[0], append(v.program[1:len(v.program):len(v.program)], m.args...)...)
	v.qemu.ExtraFiles = m.files
	v.qemu.Stdout, v.qemu.Stderr = v.console, v.console
	v.qemu.Dir = v.scratch.Dir
	v.qemu.Env = append(os.Environ(), "TMPDIR="+v.scratch.Dir) // of what is written to the disk
	// QEMU's standard input is the node's console input: nobody types there.
	stdin, err := v.qemu.StdinPipe()
	if err != nil {
		return err
	}
	var netns *os.File
	if v.config.Management != nil {
		netns = v.config.Management.Netns
	}
	if err := process.Start(v.qemu, netns); err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	if v.config.Management == nil { // before it makes threads, which inherit that
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, v.qemu.Process.Pid, niceness) // not permitted to everybody
	}
	go func() {
		v.exitErr = v.qemu.Wait()
		stdin.Close()
		close(v.exited)
	}()
	return nil
}

// handshake waits for the agent.
func (v *VM) handshake(ctx context.Context, conn net.Conn) error {
	done := make(chan error, 1)
	go func() {
		config := &ssh.ClientConfig{
			User:            "root",
			HostKeyCallback: ssh.InsecureIgnoreHostKey(),                 // the wire is private
			Config:          ssh.Config{Ciphers: []string{"aes128-ctr"}}, // twice as fast as the others when emulated
		}
		c, channels, requests, err := ssh.NewClientConn(conn, v.Name, config)
		if err == nil {
			v.client = ssh.NewClient(c, channels, requests)
		}
		done <- err
	}()
	err := v.await(ctx, done)
	if err != nil {
		conn.Close()
	}
	return err
}

// await waits for done, and for whatever makes further waiting pointless.
func (v *VM) await(ctx context.Context, done <-chan error) error {
	check := time.NewTicker(time.Second)
	defer check.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-v.exited:
			return v.gone()
		case <-v.console.fatal:
			return v.console.err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-check.C:
			if v.console.silence() > stuckAfter {
				return errStuck
			}
		}
	}
}

// settle loads the drivers and brings the management network up.
func (v *VM) settle(ctx context.Context) error {
	script := "ip link set lo up; "
	if v.config.VFIONoIOMMU {
		script += "insmod /" + artifact.NoIOMMUModule + "; "
	}
	script += "modprobe -a igb igbvf vfio-pci"
	for _, m := range v.config.Modules {
		script += " " + quote(m)
	}
	if m := v.config.Management; m != nil {
		script += "; modprobe virtio_net; " +
			"for d in /sys/class/net/*; do [ \"$(cat $d/address)\" = 52:54:00:00:ff:01 ] && ip link set ${d##*/} name mgmt0; done; " +
			"ip link set mgmt0 up && ip addr add " + quote(m.Address+"/24") + " dev mgmt0 && ip route add default via 10.0.2.2"
	}
	if len(v.config.Packages) > 0 { // only what the node lacks: its own libraries are in use
		script += "; tar -C /mnt/" + packagesDisk + " -c --exclude=./dev --exclude=./proc --exclude=./sys . | " +
			"tar -x -C / --skip-old-files --keep-directory-symlink; ldconfig"
	}
	_, err := v.Output(ctx, "sh", "-ec", script)
	return err
}

// crashed reports whether QEMU is ending because of a fault in it.
func (v *VM) crashed() bool {
	select {
	case <-v.exited:
	case <-time.After(time.Second): // its connections end a moment before it
		return false
	}
	var exit *exec.ExitError
	if !errors.As(v.exitErr, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && (status.Signal() == syscall.SIGABRT || status.Signal() == syscall.SIGSEGV)
}

// gone says why QEMU ended; v.exited is closed.
func (v *VM) gone() error {
	v.console.mu.Lock()
	defer v.console.mu.Unlock()
	switch {
	case v.console.err != nil:
		return v.console.err
	case v.exitErr != nil:
		return fmt.Errorf("QEMU ended: %w", v.exitErr)
	}
	return errors.New("the node was switched off")
}

// Close switches the node off. It is safe to call more than once.
func (v *VM) Close() error {
	if v.client != nil {
		v.client.Close()
	}
	if v.qemu != nil && v.qemu.Process != nil {
		v.qemu.Process.Kill() //nolint:errcheck // gone already is fine
		<-v.exited
	}
	if v.monitor != nil {
		v.monitor.conn.Close()
	}
	var err error
	if v.console != nil {
		err = v.console.file.Close()
	}
	return errors.Join(ignoreClosed(err), v.scratch.Remove())
}

// Trouble returns the end of the node's console, for an error message.
func (v *VM) Trouble() string { return process.Tail(v.ConsolePath) }
