// SPDX-License-Identifier: Apache-2.0

package event

import "github.com/sriovkit/sriovkit/libsriov/link"

// Link is an event about an interface.
type Link struct {
	Action Action    // Change (also for a new one), Remove, or Missed
	Link   link.Link // as it is after the change; VF state is not part of it
}
