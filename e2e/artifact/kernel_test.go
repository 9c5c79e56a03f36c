// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKernelNamed(t *testing.T) {
	s, err := kernelNamed("6.1")
	require.NoError(t, err)
	require.Equal(t, "bookworm", s.codename)
	s, err = kernelNamed("")
	require.NoError(t, err)
	require.Equal(t, defaultKernel, s)
	require.EqualError(t, CheckKernel("8"), `kernel is "8", want one of 6.1, 6.12, 7`)
	t.Setenv(KernelVariable, "7")
	s, err = kernelNamed("")
	require.NoError(t, err)
	require.Equal(t, "7", s.name)
	t.Setenv(KernelVariable, "newest")
	require.EqualError(t, CheckKernel(""), `SRIOVKIT_KERNEL is "newest", want one of 6.1, 6.12, 7`)
}
