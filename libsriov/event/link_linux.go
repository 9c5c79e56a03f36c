// SPDX-License-Identifier: Apache-2.0

package event

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/sriovkit/sriovkit/libsriov/link"
	"golang.org/x/sys/unix"
)

// Links is a subscription to events about the interfaces of one namespace.
type Links struct {
	*subscription
	queue []Link
}

// OpenLinks subscribes in the namespace that ns is open on; in the caller's own
// if ns is nil.
func OpenLinks(ns *os.File) (*Links, error) {
	s, err := subscribe(unix.NETLINK_ROUTE, unix.RTMGRP_LINK, ns)
	if err != nil {
		return nil, fmt.Errorf("subscribe to interface events: %w", err)
	}
	return &Links{subscription: s}, nil
}

// Next waits for an event. The error is ctx's cause once ctx has ended.
func (l *Links) Next(ctx context.Context) (Link, error) {
	for len(l.queue) == 0 {
		b, missed, err := l.next(ctx)
		switch {
		case err != nil:
			return Link{}, err
		case missed:
			return Link{Action: Missed}, nil
		}
		if l.queue, err = parseLinks(b); err != nil {
			return Link{}, err
		}
	}
	e := l.queue[0]
	l.queue = l.queue[1:]
	return e, nil
}

// parseLinks reads the link messages of a datagram.
func parseLinks(b []byte) ([]Link, error) {
	messages, err := syscall.ParseNetlinkMessage(append([]byte(nil), b...))
	if err != nil {
		return nil, fmt.Errorf("interface event: %w", err)
	}
	var events []Link
	for _, m := range messages {
		action := Change
		switch m.Header.Type {
		case unix.RTM_NEWLINK:
		case unix.RTM_DELLINK:
			action = Remove
		default:
			continue
		}
		parsed, err := link.Parse(m.Data)
		if err != nil {
			return nil, fmt.Errorf("interface event: %w", err)
		}
		events = append(events, Link{Action: action, Link: parsed})
	}
	return events, nil
}
