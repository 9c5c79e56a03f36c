// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
)

// listedTime is how long kubelet may take to list a pod whose device it has
// asked for; the pod's other devices and volumes come in between.
const listedTime = 30 * time.Second

// knowledge is what is known of the devices that pods hold.
type knowledge uint8

const (
	never   knowledge = iota // kubelet did not answer since the start
	blind                    // nobody can be asked here: only what this process gives out is known
	stale                    // kubelet answered, but not the last time
	current                  // kubelet has just answered
)

// holders asks which devices pods have. Kubelet's pod-resources API knows. Where it is not
// mounted, as in manifests of the SR-IOV network device plugin, the device manager's
// checkpoint does, which also lists pods that have ended until the next one starts.
type holders struct {
	socket     string
	checkpoint string
	self       string
	records    record.Store                           // of a DRA driver beside this process
	claims     func() (map[string]pool.Holder, error) // as in Options
	driver     string                                 // as in Options
	log        *slog.Logger

	known  knowledge
	mocked string // what was last said of the way to ask, so that it is said once
	// doubtful: the checkpoint names holders that the pod-resources API does not.
	doubtful bool
	misread  string // what was last said of the checkpoint
}

func newHolders(opts Options, log *slog.Logger) *holders {
	return &holders{
		socket: opts.PodResources, self: opts.Self, claims: opts.Claims, driver: opts.Driver, log: log,
		records:    record.Store{Dir: opts.Records},
		checkpoint: filepath.Join(kubelet.Dirs(opts.KubeletDir).Plugins(), "kubelet_internal_checkpoint"),
	}
}

// ask brings the ledger up to date. What is known so far stays if nobody answers: a device
// is rather kept too long than offered twice.
func (h *holders) ask(ctx context.Context, l *ledger) {
	asked := time.Now()
	read := h.claims
	if read == nil {
		read = h.recorded
	}
	claims, err := read()
	if err != nil {
		h.unknown("which devices claims have is not known; nothing changes hands until it is", err)
		return
	}
	list, err := kubelet.Holders(ctx, h.socket, h.self)
	source := "pod-resources API"
	if errors.Is(err, kubelet.ErrNoPodResources) {
		source = "checkpoint of the device manager"
		list, err = readCheckpoint(h.checkpoint)
		if errors.Is(err, fs.ErrNotExist) {
			h.known = blind
			h.say("kubelet's pod-resources directory is not mounted; devices that pods got from an earlier process are not known",
				"mount", filepath.Dir(h.socket))
			if h.claims != nil {
				l.heard(claims, asked)
			} else {
				l.know(claims)
			}
			return
		}
	}
	if err != nil {
		h.unknown("kubelet does not tell which devices pods hold; nothing changes hands until it does", err)
		return
	}
	if source == "pod-resources API" && h.claims == nil {
		list = h.complete(list)
	}
	if h.mocked != "" || source != "pod-resources API" {
		h.say("kubelet tells which devices pods hold", "by", source)
	}
	h.known = current
	h.mocked = ""
	l.heard(h.holders(list, claims), asked)
}

// recorded lists the devices that claims of a DRA driver have, as it has written down.
func (h *holders) recorded() (map[string]pool.Holder, error) {
	held := map[string]pool.Holder{}
	if h.records.Dir == "" {
		return held, nil
	}
	claims, err := h.records.All()
	for _, c := range claims {
		for _, id := range c.Devices() {
			held[id] = pool.Holder{Claim: c.Namespace + "/" + c.Name}
		}
	}
	return held, err
}

// complete adds to an answer of the pod-resources API the holders that only the device
// manager's checkpoint names. The API leaves out init containers, and just after kubelet's
// start every pod (pkg/kubelet/apis/podresources/server_v1.go: containers and restartable
// init containers of the pods that kubelet has heard of by then). The checkpoint may also
// name pods that have ended; kubelet writes it anew with every list of devices that it is
// sent. Who sends none, and would wait for ever, goes without.
func (h *holders) complete(list []kubelet.Holder) []kubelet.Holder {
	h.doubtful = false
	more, err := readCheckpoint(h.checkpoint)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		if h.misread != err.Error() {
			h.log.Warn("devices of init containers are not known", "err", err)
		}
		h.misread = err.Error()
		return list
	}
	h.misread = ""
	listed := make(map[string]bool, len(list))
	for i := range list {
		listed[list[i].Device] = true
	}
	for i := range more {
		if !listed[more[i].Device] {
			h.doubtful = true
			list = append(list, more[i])
		}
	}
	return list
}

// unknown notes that somebody did not answer.
func (h *holders) unknown(text string, err error) {
	if h.known != never {
		h.known = stale
	}
	h.say(text, "err", err)
}

// say logs once that something is not as it should be.
func (h *holders) say(text string, args ...any) {
	if h.mocked != text {
		h.log.Warn("holders of devices", append([]any{"state", text}, args...)...)
	}
	h.mocked = text
}

// holders sorts kubelet's list into what the pools of this process know as theirs, and what
// is in use in another way. claims are those of this process, or of the driver beside it.
func (h *holders) holders(list []kubelet.Holder, claims map[string]pool.Holder) map[string]pool.Holder {
	held := maps.Clone(claims)
	for _, l := range list {
		if h.claims != nil && l.Claim != "" && l.Driver == h.driver {
			continue // its records say so, and which devices are only looked at
		}
		was := held[l.Device]
		if l.Claim != "" {
			was.Claim = l.Claim
		} else if h.claims == nil {
			was.Resource = l.Resource
		}
		held[l.Device] = was
	}
	// Hardware of another kind, of another plugin, is nothing that the ledger has to hear of.
	maps.DeleteFunc(held, func(id string, _ pool.Holder) bool { return !pool.IsDeviceID(id) })
	return held
}

// maxCheckpoint bounds the file, bytes; it holds every answer to Allocate in force.
const maxCheckpoint = 16 << 20

// readCheckpoint reads which devices kubelet's device manager has given to pods
// (kubelet_internal_checkpoint). Before Kubernetes 1.20 DeviceIDs was a list; since then it
// is by NUMA node.
func readCheckpoint(path string) ([]kubelet.Holder, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxCheckpoint {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), maxCheckpoint)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Data *struct {
			PodDeviceEntries []struct {
				PodUID, ContainerName, ResourceName string
				DeviceIDs                           json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if doc.Data == nil {
		return nil, fmt.Errorf("%s: no Data in it", path)
	}
	var out []kubelet.Holder
	for _, e := range doc.Data.PodDeviceEntries {
		ids, err := checkpointIDs(e.DeviceIDs)
		if err != nil {
			return nil, fmt.Errorf("%s: DeviceIDs of pod %s: %w", path, e.PodUID, err)
		}
		prefix, name, _ := strings.Cut(e.ResourceName, "/")
		for _, id := range ids {
			out = append(out, kubelet.Holder{
				Resource: config.Resource{Prefix: prefix, Name: name}, Device: id, Pod: e.PodUID, Container: e.ContainerName,
			})
		}
	}
	return out, nil
}

func checkpointIDs(raw json.RawMessage) ([]string, error) {
	var ids []string
	if json.Unmarshal(raw, &ids) == nil {
		return ids, nil
	}
	byNode := map[string][]string{}
	err := json.Unmarshal(raw, &byNode)
	for _, list := range byNode {
		ids = append(ids, list...)
	}
	return ids, err
}
