// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLock(t *testing.T) {
	t.Parallel()
	a := exampleJournal().Device
	s := Store{Dir: t.TempDir()}
	require.NoError(t, s.Lock(t.Context(), a))
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, errors.New("test is over"))
	defer cancel()
	err := s.Lock(ctx, a)
	assert.ErrorContains(t, err, "test is over")
	var f *cnierr.Error
	require.ErrorAs(t, err, &f)
	assert.EqualValues(t, types.ErrTryAgainLater, f.Code)
}
