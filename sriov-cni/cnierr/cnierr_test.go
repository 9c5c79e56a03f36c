// SPDX-License-Identifier: Apache-2.0

package cnierr

import (
	"errors"
	"fmt"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
)

func TestToCNI(t *testing.T) {
	t.Parallel()
	assert.NoError(t, ToCNI(nil))
	busyErr := Busy(errors.New("taken"), "wait")
	for name, tc := range map[string]struct {
		err  error
		want *types.Error
	}{
		"plain":       {errors.New("x"), &types.Error{Code: 999, Msg: "x"}},
		"ours":        {busyErr, &types.Error{Code: 11, Msg: "taken", Details: "wait"}},
		"joined":      {errors.Join(busyErr, New(Recover, errors.New("y"), "")), &types.Error{Code: 11, Msg: "taken\ny", Details: "wait"}},
		"of a plugin": {fmt.Errorf("x: %w", &types.Error{Code: 12, Msg: "m", Details: "d"}), &types.Error{Code: 12, Msg: "x: m; d", Details: "d"}},
	} {
		assert.Equal(t, tc.want, ToCNI(tc.err), name)
	}
}
