// SPDX-License-Identifier: Apache-2.0

package link

import (
	"errors"
	"fmt"
	"syscall"
)

// ErrNoVF: the PF's interface does not report a VF of that index. The kernel
// leaves out those for which the driver fails, as some do while a VF resets.
var ErrNoVF = errors.New("PF reports no such VF")

// ErrNoVFReported: the PF's driver has settings of VFs and fails for all of them, as it
// does while the PF resets, or for ever where the NIC itself settles them. It wraps ErrNoVF.
var ErrNoVFReported = fmt.Errorf("PF's driver reports none of its VFs: %w", ErrNoVF)

// ErrNoVFSettings: the PF's driver reports no VFs at all. It wraps ErrNoVF.
var ErrNoVFSettings = fmt.Errorf("PF's driver has no settings of VFs: %w", ErrNoVF)

// AttributeError tells which attribute of a VF the kernel refused.
type AttributeError struct {
	VF          int
	Attr, Value string // e.g. vfstate.AttrTrust, "on"
	Err         error  // wraps the errno and carries the extended acknowledgement
}

func (e *AttributeError) Error() string {
	msg := fmt.Sprintf("set %s %s on VF %d: %v", e.Attr, e.Value, e.VF, e.Err)
	if errors.Is(e.Err, syscall.EOPNOTSUPP) {
		msg += "; the PF's driver has no such setting"
	}
	return msg
}

func (e *AttributeError) Unwrap() error { return e.Err }
