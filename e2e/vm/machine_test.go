// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/artifact"
)

func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		config Config
		want   string
	}{
		"too many PFs":     {Config{PFs: 17}, "PFs is 17, want 1 to 16"},
		"negative PFs":     {Config{PFs: -1}, "PFs is -1"},
		"virtual NICs":     {Config{VirtualNICs: 9}, "VirtualNICs is 9, want 0 to 8"},
		"virtio PFs":       {Config{PFs: 7, VirtioPFs: 2}, "VirtioPFs is 2, want 0 to 1: 8 cards fit, and the igb ports take 7"},
		"virtio VFs":       {Config{VirtioVFs: 16}, "VirtioVFs is 16, want 1 to 15"},
		"too much memory":  {Config{MemoryMiB: 4096}, "MemoryMiB is 4096, want 512 to 2800"},
		"too little":       {Config{MemoryMiB: 64}, "MemoryMiB is 64"},
		"CPUs":             {Config{CPUs: 64}, "CPUs is 64"},
		"NUMA on one CPU":  {Config{CPUs: 1, NUMA: true}, "at least 2 for two NUMA nodes"},
		"name":             {Config{Name: "a b"}, `name is "a b"`},
		"disk name":        {Config{Disks: map[string]string{"a,b": ""}}, `disk name "a,b"`},
		"management":       {Config{Management: &Management{Address: "192.0.2.1"}}, `address is "192.0.2.1"`},
		"module":           {Config{Modules: []string{"a b"}}, `module "a b"`},
		"option as module": {Config{Modules: []string{"--help"}}, `module "--help"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, tc.config.complete(), tc.want)
		})
	}
}

// TestTopology reads where QEMU is told to put the NICs; the node tests check
// what the kernel makes of it.
func TestTopology(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		config Config
		ports  int    // root ports
		last   string // device of the last NIC
	}{
		"two single-port cards": {Config{}, 2, "igb,id=nic1,bus=port1,netdev=hub1,mac=52:54:00:00:02:00,romfile="},
		"one dual-port card":    {Config{DualPort: true}, 1, "igb,id=nic1,bus=port0,addr=0.1,multifunction=on,netdev=hub1,mac=52:54:00:00:02:00,romfile="},
		"half a card":           {Config{PFs: 3, DualPort: true}, 2, "igb,id=nic2,bus=port1,addr=0.0,multifunction=on,netdev=hub2,mac=52:54:00:00:03:00,romfile="},
		"a virtio card":         {Config{PFs: 1, VirtioPFs: 1, VirtioVFs: 8}, 2, "virtio-net-pci,bus=virtio0,addr=0x0.0x0,netdev=hub-virtio0-0,mac=52:54:00:00:40:00,romfile=,id=virtio-pf0"},
		"more than ports":       {Config{PFs: 16}, 8, "igb,id=nic15,bus=port7,addr=0.1,multifunction=on,netdev=hub15,mac=52:54:00:00:10:00,romfile="},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, tc.config.complete())
			m := newMachine(tc.config, artifact.Node{}, emulated(""), os.Stdin, os.Stdin, nil)
			ports := slices.DeleteFunc(slices.Clone(m.args), func(a string) bool { return !strings.HasPrefix(a, "pcie-root-port,") })
			require.Len(t, ports, tc.ports)
			require.Equal(t, tc.last, m.args[len(m.args)-1])
		})
	}
}

func TestDeadProcessor(t *testing.T) {
	t.Parallel()
	require.True(t, inService("dumping local APIC state for CPU 0\n\nISR\t 251 \nIRR\t 37 236 251 \n"))
	require.False(t, inService("dumping local APIC state for CPU 0\n\nISR\t (none)\nIRR\t 37 \n"))
	require.False(t, inService(""))
	const registers = "\nCPU#0\nRIP=1 RFL=2 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\nCPU#1\nRIP=1 HLT=1\n"
	require.False(t, halted(registers, 0))
	require.True(t, halted(registers, 1))
	require.False(t, halted(registers, 2))
}

func TestQuote(t *testing.T) {
	t.Parallel()
	require.Equal(t, `cd '/a b' && exec env 'X=1' 'echo' 'it'\''s' '$HOME'`,
		commandLine(Command{Args: []string{"echo", "it's", "$HOME"}, Dir: "/a b", Env: []string{"X=1"}}))
}
