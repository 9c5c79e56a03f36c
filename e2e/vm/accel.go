// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/process"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

// accel is how a node's processors are made.
type accel struct {
	args []string // of QEMU
	how  string   // for people
	why  string   // likewise
}

func (a accel) String() string { return a.how + ", " + a.why }

// announced has what announce has printed.
var announced sync.Map

// announce prints, once in a process, how nodes run and why.
func (a accel) announce(log io.Writer) {
	if _, before := announced.LoadOrStore(a.String(), true); !before {
		fmt.Fprintln(log, "nodes are", a)
	}
}

// emulated is a processor in software (TCG), which works everywhere. It lacks what only
// makes a real processor fast: string instructions are emulated byte by byte, 256-bit
// vectors by function calls. Without them a program starts three times as fast, and a file
// is written twice as fast.
func emulated(why string) accel {
	return accel{[]string{"-M", "q35,i8042=off", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,-erms,-fsrm,-avx2"}, "emulated", why}
}

// counted is emulated with a clock that counts instructions, 2 ns each: what is measured
// does not depend on what else the machine does. It is slow, for only one of the node's
// processors runs at a time.
func counted(why string) accel {
	return accel{[]string{"-M", "q35,i8042=off", "-accel", "tcg,thread=single,tb-size=512", "-icount", "shift=1", "-cpu", "max,-erms,-fsrm,-avx2"}, "emulated with a clock that counts instructions", why}
}

// virtual uses KVM, ten times as fast as emulated. The IOMMU's interrupt remapping needs
// kernel-irqchip=split.
func virtual(why string) accel {
	return accel{[]string{"-M", "q35,i8042=off,kernel-irqchip=split", "-accel", "kvm", "-cpu", "max"}, "with KVM", why}
}

const (
	// accelVariable overrules the choice: "kvm", "tcg" or "icount".
	accelVariable = "SRIOVKIT_ACCEL"
	// probeTimeout is ten times what a guest with KVM takes, and probeSilence what one takes
	// until its kernel's first words: where there are none, none will come.
	probeTimeout = 20 * time.Second
	probeSilence = 6 * time.Second
	// probeAnswer is what the agent says on the console of a probe (e2e/cmd/agent).
	probeAnswer = "agent: this is a probe"
)

// chooseAccel takes KVM where it runs a guest, which is found out by running one: some
// machines have a /dev/kvm that does not. It is tried once in the time that this machine
// is up, for each kernel and QEMU.
func chooseAccel(ctx context.Context, cache *stage.Cache, node artifact.Node, program artifact.Program) (accel, error) {
	switch choice := os.Getenv(accelVariable); choice {
	case "kvm":
		return virtual(accelVariable + " says so"), nil
	case "tcg":
		return emulated(accelVariable + " says so"), nil
	case "icount":
		return counted(accelVariable + " says so"), nil
	case "":
	default:
		return accel{}, fmt.Errorf("%s is %q, want kvm, tcg or icount", accelVariable, choice)
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return emulated("as this machine has no /dev/kvm"), nil
	}
	if err != nil {
		return emulated(fmt.Sprintf("as /dev/kvm cannot be opened (%v); is this user in the group kvm?", errors.Unwrap(err))), nil
	}
	f.Close()
	unlock, err := cache.Lock(ctx, "kvm")
	if err != nil {
		return accel{}, err
	}
	defer unlock()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return accel{}, err
	}
	path := filepath.Join(cache.Dir, "kvm.json")
	answers := probeAnswers{Boot: strings.TrimSpace(string(boot))}
	answers.read(path)
	key := strings.Join(append([]string{node.Kernel}, program...), " ")
	if reason, ok := answers.Reasons[key]; ok {
		if reason != "" {
			reason = "tried before, the reason is in " + path
		}
		return accelFor(reason), nil
	}
	reason := probe(ctx, node, program, probeSilence)
	if ctx.Err() != nil {
		return accel{}, context.Cause(ctx)
	}
	answers.Reasons[key] = reason
	kept, err := json.Marshal(answers)
	if err != nil {
		return accel{}, err
	}
	return accelFor(reason), os.WriteFile(path, kept, 0o644)
}

// probeAnswers are what guests with KVM came to since this machine was booted: runs of
// several kernels by turns try each once.
type probeAnswers struct {
	Boot    string
	Reasons map[string]string // by kernel and QEMU; empty is that the guest ran
}

// read adds what a file has of the same boot. One that is damaged has nothing.
func (a *probeAnswers) read(path string) {
	a.Reasons = map[string]string{}
	var kept probeAnswers
	if content, err := os.ReadFile(path); err == nil && json.Unmarshal(content, &kept) == nil && kept.Boot == a.Boot && kept.Reasons != nil {
		a.Reasons = kept.Reasons
	}
}

// accelFor is the choice for why a guest with KVM did not run; empty is that it did.
func accelFor(reason string) accel {
	if reason == "" {
		return virtual("which runs a guest here")
	}
	return emulated("as a guest with KVM does not run here: " + reason)
}

// probe boots the node's kernel to its agent with KVM and says what went wrong. It gives up
// after that much silence.
func probe(ctx context.Context, node artifact.Node, program artifact.Program, silence time.Duration) string {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	args := slices.Concat(program[1:], virtual("").args, []string{"-smp", "2", "-m", "512M", "-display", "none", "-vga", "none", "-nodefaults", "-no-reboot", "-serial", "stdio",
		"-device", "intel-iommu,intremap=on", "-kernel", node.Kernel, "-initrd", node.Initramfs,
		"-append", "console=ttyS0 panic=-1 intel_iommu=on iommu=pt node.probe=1"})
	cmd := exec.CommandContext(ctx, program[0], args...)
	cmd.WaitDelay = time.Second
	out := words{silence: time.AfterFunc(silence, cancel)}
	cmd.Stdout, cmd.Stderr = &out, &out
	err := process.Start(cmd, nil)
	if err == nil {
		err = cmd.Wait()
	}
	switch {
	case strings.Contains(out.String(), probeAnswer):
		return ""
	case ctx.Err() != nil && out.Len() == 0:
		return fmt.Sprintf("nothing from it within %s", silence)
	case ctx.Err() != nil:
		return fmt.Sprintf("not up within %s, its last words: %s", probeTimeout, lastLine(out.String()))
	}
	return fmt.Sprintf("%s, its last words: %s", ended(err), lastLine(out.String()))
}

// words collects what a guest prints. The first of it stops the timer of the silence.
type words struct {
	strings.Builder
	silence *time.Timer
}

func (w *words) Write(p []byte) (int, error) {
	w.silence.Stop()
	return w.Builder.Write(p)
}

// ended describes how QEMU ended.
func ended(err error) string {
	if err == nil {
		return "it ended by itself"
	}
	return err.Error()
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
