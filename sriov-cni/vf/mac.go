// SPDX-License-Identifier: Apache-2.0

package vf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/sriovkit/sriovkit/libsriov/link"
)

// errMACDiffers: an interface shows another MAC than its PF set.
var errMACDiffers = errors.New("the interface shows another MAC")

// SettleMAC sees to it that an interface shows a MAC that its PF has set, in the
// namespace that c and ns are of. What the interface shows decides, not whether
// setting it succeeds: iavf takes the address from the PF by itself and refuses
// to set it, igbvf refuses it until it is opened again, others want it set. An
// interface that is up may be set down for an instant.
func SettleMAC(ctx context.Context, c *link.Conn, ns *os.File, l link.Link, mac net.HardwareAddr) error {
	shown := func() error {
		now, err := c.ByIndex(l.Index)
		if err == nil && !slices.Equal(now.MAC, mac) {
			err = fmt.Errorf("%w, %s", errMACDiffers, now.MAC)
		}
		return err
	}
	if shown() == nil {
		return nil
	}
	refused := Patiently(ctx, ns, IsBusy, func() error {
		err := c.Set(l.Index, link.Update{MAC: mac})
		if IsBusy(err) && shown() == nil {
			return nil
		}
		return err
	})
	if shown() == nil {
		return nil
	}
	// Opening or closing resets the VF, and its driver asks the PF.
	for _, up := range []bool{!l.Up(), l.Up()} {
		err := Patiently(ctx, ns, IsBusy, func() error { return c.Set(l.Index, link.Update{Up: &up}) })
		if err != nil {
			return errors.Join(refused, err)
		}
	}
	if shown() == nil {
		return nil
	}
	err := Patiently(ctx, ns, func(error) bool { return true }, func() error {
		if shown() == nil {
			return nil
		}
		return c.Set(l.Index, link.Update{MAC: mac})
	})
	if shown() == nil {
		return nil
	}
	return errors.Join(refused, err, shown())
}
