package plugin

import (
	"context"
	"errors"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLock(t *testing.T) {
	t.Parallel()
	a := exampleJournal().Device
	dir := t.TempDir()
	p, other := &Plugin{StateDir: dir}, &Plugin{StateDir: dir}
	require.NoError(t, p.lock(t.Context(), a))
	require.NoError(t, p.lock(t.Context(), a), "the call has it already")

	ctx, cancel := context.WithTimeoutCause(t.Context(), 3*lockRetry, errors.New("test is over"))
	defer cancel()
	err := other.lock(ctx, a)
	assert.ErrorContains(t, err, "test is over")
	var f *failure
	require.ErrorAs(t, err, &f)
	assert.EqualValues(t, types.ErrTryAgainLater, f.Code)
}
