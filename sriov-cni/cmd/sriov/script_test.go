// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sriov": main})
}

// TestScript runs the whole binary on what never gets as far as a device.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(e *testscript.Env) error {
			e.Setenv("CNI_CONTAINERID", "c1")
			e.Setenv("CNI_IFNAME", "net1")
			e.Setenv("CNI_NETNS", filepath.Join(e.WorkDir, "none"))
			e.Setenv("CNI_PATH", e.WorkDir)
			return os.WriteFile(filepath.Join(e.WorkDir, "binary"), []byte("\x7fELF"), 0o644)
		},
	})
}
