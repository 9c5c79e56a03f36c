// SPDX-License-Identifier: Apache-2.0

package vf

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/sriovkit/sriovkit/libsriov/event"
	"golang.org/x/sys/unix"
)

// Patience bounds each wait for a driver that resets a VF. The plugin that this
// one replaces allows 2 s for the MAC; drivers take up to some hundred
// milliseconds, and the VF's and the PF's resets can follow each other.
const Patience = 5 * time.Second

// nonePatience is Patience for a PF that reports none of its VFs and of which nothing is needed.
// It is long enough for most resets of all VFs, and short because PFs that never report any
// cost each ADD that much.
const nonePatience = time.Second

// retry is how long to wait for an interface event before the next try.
const retry = 50 * time.Millisecond

// IsBusy reports whether a driver refuses something now that it takes later.
func IsBusy(err error) bool { return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EAGAIN) }

// Patiently tries again while the error is one that passes, on each event about
// an interface in the namespace that ns is open on, nil being the host's.
func Patiently(ctx context.Context, ns *os.File, passes func(error) bool, try func() error) error {
	err := try()
	if err == nil || !passes(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	end, _ := ctx.Deadline()
	slog.Info("waiting for a VF that resets", "for", time.Until(end).Round(retry), "err", err)
	events, openErr := event.OpenLinks(ns)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	defer events.Close()
	for {
		if err = try(); err == nil || !passes(err) || ctx.Err() != nil {
			return err
		}
		// Drivers announce a new address, but not that they are ready for one.
		tick, cancel := context.WithTimeout(ctx, retry)
		_, waitErr := events.Next(tick)
		cancel()
		if waitErr != nil && tick.Err() == nil {
			return errors.Join(err, waitErr)
		}
	}
}
