// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"

	"github.com/safchain/ethtool"
)

// hwTCOffload is the netdev feature that allows tc flower rules, which Open vSwitch uses
// among others, to be offloaded to the NIC
// (https://docs.kernel.org/networking/switchdev.html).
const hwTCOffload = "hw-tc-offload"

// offloads reports whether an interface has hw-tc-offload on; known is false for one
// that does not have the feature.
func offloads(name string) (on, known bool, err error) {
	c, err := ethtool.NewEthtool()
	if err != nil {
		return false, false, fmt.Errorf("open ethtool: %w", err)
	}
	defer c.Close()
	features, err := c.Features(name)
	if err != nil {
		return false, false, fmt.Errorf("features of %s: %w", name, err)
	}
	on, known = features[hwTCOffload]
	return on, known, nil
}

// setOffload switches hw-tc-offload on; it does nothing if the interface lacks the feature.
func setOffload(name string) error {
	on, known, err := offloads(name)
	if err != nil || on || !known {
		return err
	}
	c, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("open ethtool: %w", err)
	}
	defer c.Close()
	if err := c.Change(name, map[string]bool{hwTCOffload: true}); err != nil {
		return fmt.Errorf("set %s of %s: %w", hwTCOffload, name, err)
	}
	return nil
}
