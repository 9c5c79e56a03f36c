// SPDX-License-Identifier: Apache-2.0

package vfstate_test

import (
	"fmt"

	"github.com/sriovkit/sriovkit/libsriov/vfstate"
)

// Only what differs is set, and a wish for nothing changes nothing.
func ExampleDiff() {
	have := vfstate.State{Trust: vfstate.SwitchOf(true), VLAN: &vfstate.VLAN{ID: 100}}
	want := vfstate.State{Trust: vfstate.SwitchOf(true), VLAN: &vfstate.VLAN{ID: 200}}
	todo := vfstate.Diff(have, want)
	fmt.Println(todo.VLAN.ID, todo.Trust == vfstate.Unset, vfstate.Diff(have, vfstate.State{}).IsZero())
	// Output: 200 true true
}
