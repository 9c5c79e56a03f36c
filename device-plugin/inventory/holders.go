// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
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

// holders finds out which devices pods have: from kubelet's pod-resources API or, where that is
// not mounted, as in manifests of the SR-IOV network device plugin, from the device manager's
// checkpoint. The latter also lists pods that have ended, until the next one starts.
type holders struct {
	socket     string
	checkpoint checkpoint
	self       string
	records    records
	claims     func() (map[string]pool.Holder, error) // as in Options
	driver     string                                 // as in Options
	log        *slog.Logger

	known   knowledge
	mounted bool   // the directory of the pod-resources API was there once
	said    string // of the way to ask, so that it is said once
	why     string // why it is never or stale
	// doubtful: the checkpoint names holders that the pod-resources API does not, or cannot
	// be read. Kubelet writes it anew with every list of devices that it is sent.
	doubtful bool
	only     int // such holders, in the last answer
}

func newHolders(opts Options, log *slog.Logger) *holders {
	return &holders{
		socket: opts.PodResources, self: opts.Self, claims: opts.Claims, driver: opts.Driver, log: log,
		records:    records{Store: record.Store{Dir: opts.Records}, registry: kubelet.Dirs(opts.KubeletDir).Registry()},
		checkpoint: checkpoint{path: filepath.Join(kubelet.Dirs(opts.KubeletDir).Plugins(), "kubelet_internal_checkpoint"), must: opts.Claims != nil},
	}
}

// ask brings the ledger up to date. Without an answer the ledger stays as it is: a device may
// be kept too long, but is never offered twice.
func (h *holders) ask(ctx context.Context, l *ledger) {
	asked := time.Now()
	h.doubtful = false
	read := h.claims
	if read == nil {
		read = h.records.holders
	}
	claims, err := read()
	if err != nil {
		h.unknown("which devices claims have is not known; nothing changes hands until it is", err)
		return
	}
	list, err := kubelet.Holders(ctx, h.socket, h.self)
	h.mounted = h.mounted || !errors.Is(err, kubelet.ErrNoPodResources)
	if h.mounted && err != nil {
		h.unknown("kubelet does not tell which devices pods hold; nothing changes hands until it does", err)
		return
	}
	source := "pod-resources API"
	if !h.mounted {
		source = "checkpoint of the device manager"
	}
	h.records.report(list, h.log)
	all, err := h.complete(list)
	h.only = len(all) - len(list)
	h.doubtful = h.mounted && h.only > 0
	switch {
	case err == nil || h.mounted && errors.Is(err, errNoCheckpoint):
		if h.said != "" || !h.mounted {
			h.say("kubelet tells which devices pods hold", "by", source)
		}
		h.known = current
		h.said = ""
		l.heard(h.holders(all, claims), asked)
	case errors.Is(err, errNoCheckpoint):
		h.known = blind
		h.say("kubelet's pod-resources directory is not mounted; devices that pods got from an earlier process are not known",
			"mount", filepath.Dir(h.socket))
		if h.claims != nil {
			l.heard(claims, asked)
		} else {
			l.know(claims)
		}
	default:
		h.doubtful = true
		h.unknown(ErrCheckpoint.Error()+"; nothing changes hands until it does", err)
		if h.known == stale {
			l.know(h.holders(all, claims))
		}
	}
}

// complete adds to an answer of the pod-resources API the holders that only the device
// manager's checkpoint names. The API leaves out init containers, and just after kubelet's
// start every pod (pkg/kubelet/apis/podresources/server_v1.go: containers and restartable
// init containers of the pods that kubelet has heard of by then). The checkpoint may also
// name pods that have ended. Hardware of another kind is left out. With an error, the
// checkpoint's are those of its last reading.
func (h *holders) complete(list []kubelet.Holder) ([]kubelet.Holder, error) {
	more, err := h.checkpoint.holders()
	listed := make(map[string]bool, len(list))
	for i := range list {
		listed[list[i].Device] = true
	}
	for i := range more {
		if !listed[more[i].Device] && pool.IsDeviceID(more[i].Device) {
			list = append(list, more[i])
		}
	}
	return list, err
}

// ErrCheckpoint: the device manager's checkpoint does not tell which devices pods hold.
var ErrCheckpoint = errors.New("the device manager's checkpoint does not tell which devices pods hold")

// plugged implements Inventory.Plugged. It may be called beside ask.
func (h *holders) plugged(ctx context.Context) (map[string]config.Resource, error) {
	list, err := kubelet.Holders(ctx, h.socket, h.self)
	if err != nil {
		return nil, err
	}
	if list, err = h.complete(list); errors.Is(err, errNoCheckpoint) {
		err = nil
	} else if err != nil {
		err = fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	out := map[string]config.Resource{}
	for _, l := range list {
		if l.Claim == "" {
			out[l.Device] = l.Resource
		}
	}
	return out, err
}

// unclaimed fails with ErrNotOffered if a claim has one of these devices by now, for pools
// that are served to kubelet's device manager: the driver may have written that down since
// it was last asked.
func (h *holders) unclaimed(ids []string) error {
	if h.claims != nil {
		return nil
	}
	claims, err := h.records.read()
	if err != nil {
		return fmt.Errorf("%w: which devices claims have is not known: %w", ErrNotOffered, err)
	}
	for _, c := range claims {
		for _, id := range ids {
			if c.Holds(id) {
				return fmt.Errorf("%s: %w: claim %s/%s has it for pod %s", id, ErrNotOffered, c.Namespace, c.Name, c.Pod.Name)
			}
		}
	}
	return nil
}

// unknown logs, once, that a source of holders did not answer or could not be read.
func (h *holders) unknown(text string, err error) {
	if h.known != never {
		h.known = stale
	}
	h.why = fmt.Sprintf("%s: %v", text, err)
	h.say(text, "err", err)
}

// say logs once that something is not as it should be.
func (h *holders) say(text string, args ...any) {
	if h.said != text {
		h.log.Warn("holders of devices", append([]any{"state", text}, args...)...)
	}
	h.said = text
}

// holders sorts kubelet's list into what the pools of this process know as theirs, and what
// is in use in another way. claims are those of this process, or of the driver beside it.
func (h *holders) holders(list []kubelet.Holder, claims map[string]pool.Holder) map[string]pool.Holder {
	held := maps.Clone(claims)
	for _, l := range list {
		if h.claims != nil && l.Claim != "" && l.Driver == h.driver {
			continue // its records say so, and which devices are only looked at
		}
		if l.Claim != "" && h.records.looks[look{l.Driver, l.Claim, l.Device}] {
			continue // kubelet does not tell these from the others
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
