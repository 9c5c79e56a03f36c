package vm_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/e2e/vm"
)

func TestNodeBoot(t *testing.T) {
	vm.Need(t)
	v, err := vm.Boot(t.Context(), vm.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.Close()) })
	out, err := v.Output(t.Context(), "sh", "-c", "uname -a; ip -br l; lspci; ls /sys/class/net/*/device/driver -l; free -m; lsmod|wc -l; dmesg | tail -5")
	require.NoError(t, err)
	t.Log(out)
	c, _ := os.ReadFile(v.ConsolePath)
	os.WriteFile("/tmp/e2e-scratch/console", c, 0o644)
}
