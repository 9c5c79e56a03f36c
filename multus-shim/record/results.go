// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/delegate"
	"github.com/sriovkit/sriovkit/multus-shim/nad"
)

// cached is libcni's result cache (kind cniCacheV1). It is kept beside the record as a second
// source for DEL, and is found after an upgrade from upstream.
type cached struct {
	Kind           string                     `json:"kind"`
	ContainerID    string                     `json:"containerId"`
	Config         []byte                     `json:"config"` // configuration or list, base64
	IfName         string                     `json:"ifName"`
	NetworkName    string                     `json:"networkName"`
	Netns          string                     `json:"netns,omitempty"`
	Args           conf.Args                  `json:"cniArgs,omitempty"`
	CapabilityArgs map[string]json.RawMessage `json:"capabilityArgs,omitempty"`
	Result         json.RawMessage            `json:"result,omitempty"`
	// Owner is the CNI_IFNAME under which the container got the attachment, "" for eth0
	// and in entries of others. libcni does not read it.
	Owner string `json:"multusIfname,omitempty"`
}

const cacheKind = "cniCacheV1"

func (s Store) resultPath(containerID string, a delegate.Attachment) string {
	return filepath.Join(s.Dir, "results", delegate.FileName(containerID, a))
}

// SaveResult writes the libcni entry of an attachment: before its ADD without
// a result, after it with one.
func (s Store) SaveResult(key, netns string, e Entry) error {
	containerID, owner := Split(key)
	if key == containerID {
		owner = ""
	}
	data, err := marshal(cached{
		Owner: owner,
		Kind:  cacheKind, ContainerID: containerID, Config: e.List(), IfName: e.Ifname, NetworkName: e.Name,
		Netns: netns, Args: e.Args, CapabilityArgs: e.CapabilityArgs, Result: e.Result,
	})
	if err != nil {
		return err
	}
	path := s.resultPath(containerID, e.Attachment)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// RemoveResult removes the libcni entry of an attachment, if there is one. Of a name that
// no file can have there is none.
func (s Store) RemoveResult(containerID string, a delegate.Attachment) error {
	err := os.Remove(s.resultPath(containerID, a))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENAMETOOLONG) {
		return err
	}
	return nil
}

// FromResults rebuilds a record from libcni's entries for an attachment, the
// default interface first. It returns nil when there are none. An entry that
// cannot be read is an attachment all the same, its name says so: the error is
// ErrCorrupt and names the files.
func (s Store) FromResults(key, ifname string) (*Record, error) {
	dir := filepath.Join(s.Dir, "results")
	containerID, owner := Split(key)
	names := slices.Concat(s.results[key], s.unreadable)
	if key != containerID {
		names = slices.Concat(s.results[containerID], names)
	}
	if s.results == nil {
		var err error
		if names, err = readNames(dir); err != nil {
			return nil, err
		}
	}
	r := &Record{Version: Version, ContainerID: containerID, Ifname: ifname}
	var unreadable []error
	unowned := &Record{} // for another interface than eth0: upstream's
	for _, name := range names {
		if !strings.Contains(name, "-"+containerID+"-") {
			continue
		}
		path := filepath.Join(dir, name)
		data, err := readFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another command finished with it
		}
		if errors.Is(err, ErrCorrupt) {
			unreadable = append(unreadable, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		entry, of, netns, err := parseCached(data, containerID)
		switch {
		case errors.Is(err, errOther), err == nil && of != "" && of != owner:
			continue
		case err == nil && of == "" && key != containerID:
			unowned.Netns = netns
			unowned.add(entry, ifname)
			continue
		case err != nil:
			unreadable = append(unreadable, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err))
			continue
		}
		r.Netns = netns
		r.add(entry, ifname)
	}
	if len(r.Entries) == 0 && s.scratchOf(key) != "" {
		r.Netns, r.Entries = unowned.Netns, unowned.Entries
	}
	if len(r.Entries) == 0 {
		r = nil
	}
	return r, errors.Join(unreadable...)
}

// AttachedByRuntime returns, by CNI network, which attachments the runtime made without a meta
// plugin. It reads the results that the runtimes' library keeps below /var/lib/cni, beside
// cniDir. unknown has an error for each attachment of which they do not tell the networks, such
// as one that a meta plugin made.
func (s Store) AttachedByRuntime(attachments []conf.Attachment) (networks map[string][]conf.Attachment, unknown []error) {
	if len(attachments) == 0 {
		return nil, nil
	}
	dir := filepath.Join(filepath.Dir(s.Dir), "results")
	names, err := readNames(dir)
	if err != nil {
		return nil, []error{err}
	}
	networks = map[string][]conf.Attachment{}
	for _, a := range attachments {
		network, err := runtimeNetwork(dir, names, a)
		if err != nil {
			unknown = append(unknown, fmt.Errorf("container %s, interface %s: %w", a.ContainerID, a.IfName, err))
			continue
		}
		networks[network] = append(networks[network], a)
	}
	return networks, unknown
}

// runtimeNetwork is the one network to which an attachment belongs by the runtime's results.
func runtimeNetwork(dir string, names []string, a conf.Attachment) (network string, err error) {
	for _, name := range names {
		if !strings.HasSuffix(name, "-"+a.ContainerID+"-"+a.IfName) {
			continue
		}
		path := filepath.Join(dir, name)
		data, err := readFile(path)
		if err != nil {
			return "", err
		}
		entry, _, _, err := parseCached(data, a.ContainerID)
		switch {
		case errors.Is(err, errOther):
			continue
		case err != nil:
			return "", fmt.Errorf("%s: %w", path, err)
		case entry.Ifname != a.IfName || entry.isMeta() || network != "":
			return "", fmt.Errorf("%s: not the result of the container's only network", path)
		}
		network = entry.Name
	}
	if network == "" {
		return "", fmt.Errorf("no result in %s", dir)
	}
	return network, nil
}

// isMeta reports whether a plugin of the network runs networks that are not its own.
func (e Entry) isMeta() bool {
	return slices.ContainsFunc(e.Plugins, func(raw json.RawMessage) bool {
		var meta struct {
			Delegates, ClusterNetwork json.RawMessage
		}
		return json.Unmarshal(raw, &meta) != nil || meta.Delegates != nil || meta.ClusterNetwork != nil
	})
}

// add puts the default interface first.
func (r *Record) add(e Entry, ifname string) {
	if e.Ifname == ifname {
		r.Entries = append([]Entry{e}, r.Entries...)
		return
	}
	r.Entries = append(r.Entries, e)
}

// errOther: the entry is that of another container, whose ID contains the one that is looked
// for.
var errOther = errors.New("another container")

func parseCached(data []byte, containerID string) (e Entry, owner, netns string, err error) {
	var c cached
	switch err := json.Unmarshal(data, &c); {
	case err != nil:
		return Entry{}, "", "", err
	case c.ContainerID != "" && c.ContainerID != containerID:
		return Entry{}, "", "", errOther
	case c.Kind != cacheKind || c.ContainerID == "" || c.IfName == "":
		return Entry{}, "", "", fmt.Errorf("kind %q, container %q, interface %q: not an entry of libcni", c.Kind, c.ContainerID, c.IfName)
	}
	network, err := nad.ParseRecorded(c.Config, c.NetworkName)
	if err != nil {
		return Entry{}, "", "", err
	}
	if bytes.Equal(c.Result, []byte("null")) {
		c.Result = nil
	}
	// Whether or not it was added, its plugins may have run.
	return Entry{Attachment: fromConfig(network, c), Progress: Progress{Added: true, Result: c.Result}}, c.Owner, c.Netns, nil
}

func fromConfig(network nad.Config, c cached) delegate.Attachment {
	a := delegate.Attachment{
		Network: network.Name, Name: network.Name, CNIVersion: network.CNIVersion, Ifname: c.IfName,
		DisableCheck: network.DisableCheck, DisableGC: network.DisableGC,
		CapabilityArgs: c.CapabilityArgs, Args: c.Args,
	}
	for _, p := range network.Plugins {
		a.Plugins = append(a.Plugins, p.JSON.Bytes())
	}
	var path string
	if json.Unmarshal(c.CapabilityArgs["CNIDeviceInfoFile"], &path) == nil {
		a.DeviceInfo = path
	}
	return a
}

// Index returns a store that has read all libcni entries once, for who looks up
// many containers: there are nodes with hundreds of thousands of stale entries.
func (s Store) Index() (Store, error) {
	dir := filepath.Join(s.Dir, "results")
	names, err := readNames(dir)
	if err != nil {
		return Store{}, err
	}
	s.results = map[string][]string{}
	for _, name := range names {
		data, err := readFile(filepath.Join(dir, name))
		var c cached
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err == nil && json.Unmarshal(data, &c) == nil && c.Kind == cacheKind && c.ContainerID != "":
			key := Key(c.ContainerID, c.Owner)
			s.results[key] = append(s.results[key], name)
		default:
			s.unreadable = append(s.unreadable, name)
		}
	}
	return s, nil
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// marshal is json.Marshal without HTML escapes: recorded configurations keep
// their bytes.
func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return out.Bytes(), err
}
