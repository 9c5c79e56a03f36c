// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
)

// Answer is what one container gets.
type Answer struct {
	Env   map[string]string
	Nodes []Node   // empty with CDI
	CDI   []string // fully qualified CDI device names; empty without
}

// ErrUnknownDevice: a device was asked for that is not in the pool.
var ErrUnknownDevice = errors.New("not a device of this pool")

// Allocator answers for one pool as it is now.
type Allocator struct {
	Host    Host
	Pool    config.Pool
	Members map[string]pool.Member // by ID
	// DeviceInfo is the directory for device-info files.
	DeviceInfo string
	// CDI is where the pool's specification goes; nil hands out nodes instead.
	CDI *CDI
}

// Allocate composes the answer for one container and writes the device-info
// files of its devices. It changes nothing if it fails for any of them.
func (a Allocator) Allocate(ids []string) (Answer, error) {
	info := map[string]map[string]map[string]string{}
	out := Answer{Env: map[string]string{}}
	var files []File
	lookup, nodes := a.Host.now(), map[string][]Node{}
	for _, id := range ids {
		m, ok := a.Members[id]
		if !ok {
			return Answer{}, fmt.Errorf("%.80q: %w %s", id, ErrUnknownDevice, a.Pool.Resource)
		}
		f, err := lookup.look(m, a.Pool.AdditionalInfo)
		if err != nil {
			return Answer{}, fmt.Errorf("%s of %s: %w", id, a.Pool.Resource, err)
		}
		info[id], nodes[id] = f.info, f.nodes
		for _, n := range f.nodes {
			if !slices.Contains(out.Nodes, n) {
				out.Nodes = append(out.Nodes, n)
			}
		}
		file, err := a.Host.deviceInfo(a.Pool.Resource, m, f.rdma)
		if err != nil {
			return Answer{}, err
		}
		if file != nil {
			files = append(files, *file)
		}
	}
	text, err := json.Marshal(info)
	if err != nil {
		return Answer{}, err
	}
	out.Env[a.Pool.Resource.EnvName()] = strings.Join(ids, ",")
	out.Env[a.Pool.Resource.EnvName()+"_INFO"] = string(text)
	if a.CDI != nil {
		out.Nodes = nil
		if err := a.CDI.define(a.Pool, nodes); err != nil {
			return Answer{}, err
		}
		for _, id := range ids {
			out.CDI = append(out.CDI, a.CDI.Device(a.Pool, id))
		}
	}
	return out, writeAll(a.DeviceInfo, files)
}
