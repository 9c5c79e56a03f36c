// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/nad"
	"github.com/sriovkit/sriovkit/multus-shim/rawjson"
)

// scratch is one element of the file that upstream Multus keeps per container:
// a list in the order of ADD. Capability arguments other than these are not in
// it, and releases up to 4.3.0 dropped members of plugins in lists, so libcni's
// entry for the same interface is preferred where there is one.
type scratch struct {
	Name     string
	Bytes    []byte   // configuration or list, base64
	Ifname   string   `json:"ifnameRequest"`
	MAC      string   `json:"macRequest"`
	GUID     string   `json:"infinibandGUIDRequest"`
	IPs      []string `json:"ipRequest"`
	DeviceID string   `json:"deviceID"`
}

func (s Store) scratchPath(containerID string) string { return filepath.Join(s.Dir, containerID) }

// scratchOf is the container whose scratch file, and whose libcni entries that name no
// CNI_IFNAME, are those of the key: upstream keeps one attachment per container, whatever
// its interface. "" where they are those of another attachment, which has a record.
func (s Store) scratchOf(key string) string {
	container, _ := Split(key)
	if container != key {
		if _, err := os.Lstat(s.Path(container)); err == nil {
			return ""
		}
	}
	return container
}

// Find returns what is known about an attachment from the best source there is:
// our record, then upstream's scratch file completed from libcni's results,
// then these alone. It returns nil when nothing is known.
//
// The error wraps ErrCorrupt when the attachment has networks that no source describes; it names
// the damaged files. What the sources do describe is returned with it, for that has to be
// detached in any case. Record.Unreadable is set when our own record could not be read, whatever
// else was found. args are those of the command, for sources that have none.
func (s Store) Find(key, ifname string, args conf.Args) (*Record, error) {
	r, recordErr := s.Load(key)
	if recordErr == nil {
		return r, nil
	}
	r, err := s.rebuild(key, ifname, args, recordErr)
	if r == nil {
		return nil, err
	}
	r.number()
	if !errors.Is(recordErr, fs.ErrNotExist) {
		r.Unreadable = recordErr
	}
	return r, err
}

// rebuild is Find without our record.
func (s Store) rebuild(key, ifname string, args conf.Args, recordErr error) (*Record, error) {
	r, scratchErr := s.fromScratch(key, ifname, args)
	if scratchErr == nil {
		return r, nil
	}
	r, err := s.FromResults(key, ifname)
	if err != nil || r != nil {
		return r, err
	}
	for _, err := range []error{recordErr, scratchErr} {
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, nil
}

func (s Store) fromScratch(key, ifname string, args conf.Args) (*Record, error) {
	containerID := s.scratchOf(key)
	if containerID == "" {
		return nil, fs.ErrNotExist
	}
	path := s.scratchPath(containerID)
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	entries, err := parseScratch(data, ifname, args)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
	}
	r := &Record{Version: Version, ContainerID: containerID, Ifname: ifname, Entries: entries}
	results, err := s.FromResults(key, ifname)
	if err != nil && !errors.Is(err, ErrCorrupt) { // this file tells of all attachments, too
		return nil, err
	}
	if results == nil {
		return r, nil
	}
	r.Netns = results.Netns
	for _, known := range results.Entries {
		same := func(e Entry) bool { return e.Ifname == known.Ifname }
		if i := slices.IndexFunc(r.Entries, same); i >= 0 {
			r.Entries[i] = known
			continue
		}
		r.Entries = append(r.Entries, known)
	}
	return r, nil
}

func parseScratch(data []byte, ifname string, args conf.Args) ([]Entry, error) {
	var list []scratch
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("no network in it")
	}
	var entries []Entry
	for i, element := range list {
		network, err := nad.ParseRecorded(element.Bytes, element.Name)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i+1, err)
		}
		c := cached{IfName: element.Ifname, Args: args, CapabilityArgs: map[string]json.RawMessage{}}
		switch {
		case c.IfName != "":
		case i == 0:
			c.IfName = ifname
		default:
			c.IfName = fmt.Sprintf("net%d", i)
		}
		for key, value := range map[string]string{
			"mac": element.MAC, "infinibandGUID": element.GUID, "deviceID": element.DeviceID,
		} {
			if value != "" {
				c.CapabilityArgs[key] = rawjson.Marshal(value)
			}
		}
		if len(element.IPs) > 0 {
			c.CapabilityArgs["ips"] = rawjson.Marshal(element.IPs)
		}
		entries = append(entries, Entry{Attachment: fromConfig(network, c), Progress: Progress{Added: true}})
	}
	return entries, nil
}
