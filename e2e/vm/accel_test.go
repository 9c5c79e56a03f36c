// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/artifact"
	"github.com/sriovkit/sriovkit/e2e/stage"
)

func TestAccelBySetting(t *testing.T) {
	cache := &stage.Cache{Dir: t.TempDir(), Log: t.Output()}
	for setting, want := range map[string]string{"kvm": "with KVM, SRIOVKIT_ACCEL says so", "tcg": "emulated, SRIOVKIT_ACCEL says so", "icount": "emulated with a clock that counts instructions, SRIOVKIT_ACCEL says so"} {
		t.Setenv(accelVariable, setting)
		a, err := chooseAccel(t.Context(), cache, artifact.Node{}, artifact.InstalledQEMU)
		require.NoError(t, err)
		require.Equal(t, want, a.String())
	}
	t.Setenv(accelVariable, "xen")
	_, err := chooseAccel(t.Context(), cache, artifact.Node{}, artifact.InstalledQEMU)
	require.EqualError(t, err, `SRIOVKIT_ACCEL is "xen", want kvm, tcg or icount`)
}

// TestAccelByProbe has a QEMU that fails, ends or brings a guest up, each where there is
// a /dev/kvm to open.
func TestAccelByProbe(t *testing.T) {
	t.Setenv(accelVariable, "")
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		a, err := chooseAccel(t.Context(), &stage.Cache{Dir: t.TempDir()}, artifact.Node{}, nil)
		require.NoError(t, err)
		require.Contains(t, a.String(), "emulated, as ")
		return
	}
	f.Close()
	for name, tc := range map[string]struct{ script, want string }{
		"fails": {"echo 'error: failed to set MSR 0x10a' >&2; kill -ABRT $$", "emulated, as a guest with KVM does not run here: signal: aborted, its last words: error: failed to set MSR 0x10a"},
		"runs":  {"echo 'Run /init as init process'; echo 'agent: this is a probe, and programs run'", "with KVM, which runs a guest here"},
		"ends":  {"echo 'Kernel panic'", "emulated, as a guest with KVM does not run here: it ended by itself, its last words: Kernel panic"},
	} {
		t.Run(name, func(t *testing.T) {
			cache := &stage.Cache{Dir: t.TempDir(), Log: t.Output()}
			require.NoError(t, os.Mkdir(filepath.Join(cache.Dir, "locks"), 0o755))
			qemu := filepath.Join(t.TempDir(), "qemu")
			runs := qemu + "-runs"
			require.NoError(t, os.WriteFile(qemu, []byte("#!/bin/sh\necho x >> "+runs+"\n"+tc.script+"\n"), 0o755))
			a, err := chooseAccel(t.Context(), cache, artifact.Node{}, artifact.Program{qemu})
			require.NoError(t, err)
			require.Equal(t, tc.want, a.String())
			again, err := chooseAccel(t.Context(), cache, artifact.Node{}, artifact.Program{qemu})
			require.NoError(t, err)
			require.Equal(t, a.args, again.args)
			if a.how == "emulated" {
				require.Equal(t, "as a guest with KVM does not run here: tried before, the reason is in "+cache.Dir+"/kvm.json", again.why)
			}
			tried, err := os.ReadFile(runs)
			require.NoError(t, err)
			require.Equal(t, 1, strings.Count(string(tried), "x"), "it is tried once")
			_, err = chooseAccel(t.Context(), cache, artifact.Node{Kernel: "another"}, artifact.Program{qemu})
			require.NoError(t, err)
			tried, err = os.ReadFile(runs)
			require.NoError(t, err)
			require.Equal(t, 2, strings.Count(string(tried), "x"), "and again with another kernel")
			for _, n := range []artifact.Node{{}, {Kernel: "another"}} {
				_, err = chooseAccel(t.Context(), cache, n, artifact.Program{qemu})
				require.NoError(t, err)
			}
			tried, err = os.ReadFile(runs)
			require.NoError(t, err)
			require.Equal(t, 2, strings.Count(string(tried), "x"), "by turns")
		})
	}
}

func TestProbeOfASilentGuest(t *testing.T) {
	t.Parallel()
	qemu := filepath.Join(t.TempDir(), "qemu")
	require.NoError(t, os.WriteFile(qemu, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755))
	require.Equal(t, "nothing from it within 10ms", probe(t.Context(), artifact.Node{}, artifact.Program{qemu}, 10*time.Millisecond))
}

func TestAnnouncedOnce(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	for range 2 {
		emulated("for " + t.Name()).announce(&log)
	}
	require.Equal(t, "nodes are emulated, for TestAnnouncedOnce\n", log.String())
}
