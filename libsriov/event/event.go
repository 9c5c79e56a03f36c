// SPDX-License-Identifier: Apache-2.0

// Package event tells when hardware changes: functions that come, go or change
// driver (kernel uevents, the kobject broadcast group of
// NETLINK_KOBJECT_UEVENT), interfaces that change (rtnetlink's link group) and default
// routes that come and go (its route groups). Reading them needs no privilege.
//
// Subscribe first, then look, then wait: a change between the look and the wait
// is then an event and not a loss. Events say that something changed, not what
// it is now; look again before acting on one. When the kernel had to drop some,
// Next returns one of kind [Missed], and the reader looks at everything.
package event
