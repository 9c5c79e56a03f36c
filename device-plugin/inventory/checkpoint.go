// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/internal/regular"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
)

// checkpoint is the file in which kubelet's device manager keeps what it has given to pods,
// kubelet_internal_checkpoint. Kubelet replaces it whole (checkpointmanager's FileStore:
// written aside, then renamed), so that one that cannot be read is damaged, or another
// kubelet's.
type checkpoint struct {
	path string
	// must: whoever does not serve kubelet's device manager has its directory for this file
	// alone, and one that is not mounted is not one without a checkpoint.
	must bool

	mu   sync.Mutex
	last []kubelet.Holder // of the last reading
	seen bool             // it could be read once
}

// errNoCheckpoint: there was none since the start. Kubelet takes that for a node on which it
// has given nothing out yet.
var errNoCheckpoint = errors.New("no checkpoint of the device manager")

// errLostCheckpoint: it was there before. Whoever removed it did not tell the kubelet that
// runs, which writes it again.
var errLostCheckpoint = errors.New("the checkpoint of the device manager has vanished; kubelet writes it again")

// holders reads the file. If that fails it returns those of the last time with the error,
// which is errNoCheckpoint if there was no file since the start.
func (c *checkpoint) holders() ([]kubelet.Holder, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, err := readCheckpoint(c.path)
	switch {
	case err == nil:
		c.last, c.seen = now, true
	case errors.Is(err, fs.ErrNotExist) && c.seen:
		err = errLostCheckpoint
	case errors.Is(err, fs.ErrNotExist) && c.must && !isDir(filepath.Dir(c.path)):
		err = fmt.Errorf("%w; is -kubelet-dir right, and its directory device-plugins mounted?", err)
	case errors.Is(err, fs.ErrNotExist):
		err = errNoCheckpoint
	}
	return c.last, err
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// maxCheckpoint bounds the file, bytes. It holds every answer to Allocate in force, of all
// plugins, and is read entry by entry.
const maxCheckpoint = 256 << 20

// podDevices is an entry of the checkpoint: devices of one resource in one container.
type podDevices struct {
	PodUID, ContainerName, ResourceName string
	// DeviceIDs is a list before Kubernetes 1.20, and since then one for each NUMA node.
	DeviceIDs json.RawMessage
}

// readCheckpoint reads which devices kubelet's device manager has given to pods. What is not
// there, in a file that another kubelet wrote, is an error and not nothing.
func readCheckpoint(path string) ([]kubelet.Holder, error) {
	f, err := regular.Open(path, maxCheckpoint)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, found := json.NewDecoder(f), false
	var out []kubelet.Holder
	err = members(d, "Data", func() error {
		return members(d, "PodDeviceEntries", func() (err error) {
			out, err = readEntries(d)
			found = true
			return err
		})
	})
	if err == nil && !found {
		err = errors.New("no Data.PodDeviceEntries in it")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

// members reads an object, the member of a name by a function and the others past.
func members(d *json.Decoder, name string, read func() error) error {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return cmp.Or(err, errors.New("not an object"))
	}
	for d.More() {
		key, err := d.Token()
		switch {
		case err != nil:
		case key == name:
			err = read()
		default:
			var past json.RawMessage
			err = d.Decode(&past)
		}
		if err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// readEntries reads the list of entries, which is null if there are none.
func readEntries(d *json.Decoder) (out []kubelet.Holder, err error) {
	switch t, err := d.Token(); {
	case err != nil:
		return nil, err
	case t == nil:
		return nil, nil
	case t != json.Delim('['):
		return nil, errors.New("PodDeviceEntries is not a list")
	}
	for d.More() {
		var e podDevices
		if err := d.Decode(&e); err != nil {
			return nil, err
		}
		ids, err := e.ids()
		if err != nil {
			return nil, fmt.Errorf("devices of pod %.80q: %w", e.PodUID, err)
		}
		prefix, name, _ := strings.Cut(e.ResourceName, "/")
		for _, id := range ids {
			out = append(out, kubelet.Holder{
				Resource: config.Resource{Prefix: prefix, Name: name}, Device: id, Pod: e.PodUID, Container: e.ContainerName,
			})
		}
	}
	_, err = d.Token()
	return out, err
}

// ids are the devices of an entry, which may have none.
func (e podDevices) ids() (ids []string, err error) {
	switch {
	case e.PodUID == "" || e.ResourceName == "" || len(e.DeviceIDs) == 0:
		return nil, errors.New("no PodUID, ResourceName or DeviceIDs")
	case bytes.HasPrefix(e.DeviceIDs, []byte("[")):
		err = json.Unmarshal(e.DeviceIDs, &ids)
		return ids, err
	}
	byNode := map[string][]string{}
	err = json.Unmarshal(e.DeviceIDs, &byNode)
	for _, list := range byNode {
		ids = append(ids, list...)
	}
	return ids, err
}
