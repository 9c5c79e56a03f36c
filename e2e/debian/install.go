// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sriovkit/sriovkit/e2e/stage"
)

// minQEMU is the first major version whose emulated igb is good enough: VFs,
// interrupt remapping and dual-port cards were tried with 10.0.
const minQEMU = 10

// Install makes sure that the given packages are installed on this machine.
func (a *Archive) Install(ctx context.Context, cache *stage.Cache, packages ...string) error {
	if len(missing(ctx, packages)) == 0 {
		return nil
	}
	unlock, err := cache.Lock(ctx, "install")
	if err != nil {
		return err
	}
	defer unlock()
	need := missing(ctx, packages)
	if len(need) == 0 {
		return nil // the process that had the lock did it
	}
	return a.install(ctx, cache, need)
}

// missing returns those of the packages that are not installed.
func missing(ctx context.Context, packages []string) []string {
	return slices.DeleteFunc(slices.Clone(packages), func(p string) bool {
		out, err := output(ctx, "dpkg-query", "-W", "-f", "${db:Status-Status}", p)
		return err == nil && out == "installed"
	})
}

// InstallQEMU makes sure that a QEMU with a usable igb is on the PATH and takes
// it from backports where the release's own is too old.
func (a *Archive) InstallQEMU(ctx context.Context, cache *stage.Cache) error {
	if QEMUVersion(ctx).AtLeast(minQEMU, 0) {
		return nil
	}
	unlock, err := cache.Lock(ctx, "install")
	if err != nil {
		return err
	}
	defer unlock()
	if QEMUVersion(ctx).AtLeast(minQEMU, 0) {
		return nil // the process that had the lock did it
	}
	args := []string{"qemu-system-x86", "seabios"}
	if b := a.backports(); len(b) > 0 {
		args = append(args, "-t", b[0].Suite)
	}
	if err := a.install(ctx, cache, args); err != nil {
		return err
	}
	if got := QEMUVersion(ctx); !got.AtLeast(minQEMU, 0) {
		return fmt.Errorf("QEMU on the PATH is version %s, want %d or newer; is an older one before /usr/bin in the PATH?", got, minQEMU)
	}
	return nil
}

func (a *Archive) install(ctx context.Context, cache *stage.Cache, args []string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("packages are missing and installing them needs root; run: apt-get install %s", strings.Join(args, " "))
	}
	fmt.Fprintf(cache.Log, "apt: installing %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, "apt-get", append(append(a.options(), "-qq", "-y", "--no-install-recommends", "install"), args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	// Packages are not left half configured: an interrupted apt-get ends where that is safe,
	// and Ctrl-C reaches it by way of ctx alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get install %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Version is a program's, of which the first two numbers count.
type Version struct{ Major, Minor int }

// AtLeast reports whether the version is this one or newer.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

var versionLine = regexp.MustCompile(`version (\d+)\.(\d+)`)

// QEMUVersion is the version of the installed QEMU, zero if there is none.
func QEMUVersion(ctx context.Context) Version {
	out, err := output(ctx, "qemu-system-x86_64", "--version")
	if err != nil {
		return Version{}
	}
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return Version{}
	}
	major, _ := strconv.Atoi(m[1]) // digits by the pattern
	minor, _ := strconv.Atoi(m[2])
	return Version{major, minor}
}
