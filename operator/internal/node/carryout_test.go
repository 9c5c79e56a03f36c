// SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

// What is left after a pass is carried out at once if it was not there before the pass.
func TestWorksThatAppearInAPass(t *testing.T) {
	mtu := plan.Step{Op: plan.OpPFMTU, Num: 2000}
	up := plan.Step{Op: plan.OpLinkUp}
	work := func(pf string, steps ...plan.Step) plan.Work { return plan.Work{PF: pf, Steps: steps} }
	for name, tc := range map[string]struct {
		left, before []plan.Work
		want         bool
	}{
		"nothing is left":            {nil, []plan.Work{work("a", up)}, false},
		"of another PF":              {[]plan.Work{work("b", up)}, []plan.Work{work("a", up)}, true},
		"of the same PF":             {[]plan.Work{work("a", mtu)}, []plan.Work{work("a", up)}, true},
		"one of two without effect":  {[]plan.Work{work("a", mtu)}, []plan.Work{work("a", up, mtu)}, true},
		"without effect, once more":  {[]plan.Work{work("a", mtu)}, []plan.Work{work("a", mtu)}, false},
		"the same step, other value": {[]plan.Work{work("a", plan.Step{Op: plan.OpPFMTU, Num: 1500})}, []plan.Work{work("a", mtu)}, true},
		"what waits for a drain":     {[]plan.Work{work("b", up)}, []plan.Work{work("a", up), work("b", up)}, false},
	} {
		assert.Equal(t, tc.want, appeared(tc.left, tc.before), name)
	}
}
