// SPDX-License-Identifier: Apache-2.0

// Package pool decides which device goes into which resource pool. [Read]
// lists the devices of a host with the facts that selectors ask for; [Assign],
// which is pure, gives each device to at most one pool and keeps a reason for
// every pool that did not get it. The package knows neither kubelet nor gRPC.
package pool

import "github.com/sriovkit/sriovkit/device-plugin/device"

// Device is one thing that a container can be given.
type Device = device.Device

// Needs says which facts some pool asks for.
type Needs = device.Needs
