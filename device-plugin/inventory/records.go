// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"log/slog"
	"path/filepath"

	"github.com/sriovkit/sriovkit/device-plugin/dra/record"
	"github.com/sriovkit/sriovkit/device-plugin/kubelet"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
	"k8s.io/apimachinery/pkg/types"
)

// records are those of a DRA driver beside this process.
type records struct {
	record.Store
	registry string // where the driver registers with kubelet

	claims []record.Claim // of the last reading
	looks  map[look]bool  // with claims
	said   map[types.UID]bool
}

// look is a device that a claim has admin access to: somebody else has it, or nobody.
type look struct{ driver, claim, device string }

// holders lists the devices that claims have, as the driver has written down.
func (r *records) holders() (map[string]pool.Holder, error) {
	held := map[string]pool.Holder{}
	claims, err := r.read()
	for _, c := range claims {
		for _, id := range c.Devices() {
			held[id] = pool.Holder{Claim: c.Namespace + "/" + c.Name}
		}
	}
	r.claims, r.looks = claims, map[look]bool{}
	for _, c := range claims {
		for _, q := range c.Requests {
			for _, d := range q.Devices {
				if q.AdminAccess {
					r.looks[look{r.driver(), c.Namespace + "/" + c.Name, d.ID}] = true
				}
			}
		}
	}
	return held, err
}

func (r *records) read() ([]record.Claim, error) {
	if r.Dir == "" {
		return nil, nil
	}
	return r.All()
}

// report says once of each claim that nobody ends it: kubelet does not list it, and the
// driver is not there. Its devices stay in use all the same. Kubelet does not list claims of
// init containers either, nor pods that were deleted by force and still run; who can ask the
// API server and look at the devices is the driver.
func (r *records) report(list []kubelet.Holder, log *slog.Logger) {
	if len(r.claims) == 0 || r.isServed() {
		r.said = nil
		return
	}
	listed := map[string]bool{}
	for i := range list {
		listed[list[i].Claim] = true
	}
	now := map[types.UID]bool{}
	for _, c := range r.claims {
		if listed[c.Namespace+"/"+c.Name] {
			continue
		}
		now[c.UID] = true
		if !r.said[c.UID] {
			path, _ := r.Path(c.UID) // it was just read
			log.Warn("a claim keeps its devices, and nobody ends it: its DRA driver is not here, and kubelet does not list it",
				"claim", c.Namespace+"/"+c.Name, "pod", c.Pod.Name, "devices", c.Devices(),
				"remedy", "start the driver again; or, once no pod has the devices, remove "+path)
		}
	}
	r.said = now
}

// driver is the name of the driver: NAME/claims are the records of NAME.
func (r *records) driver() string { return filepath.Base(filepath.Dir(r.Dir)) }

// isServed reports whether the driver has registered with kubelet: NAME-reg.sock or, in an
// update, NAME-UID-reg.sock are its sockets.
func (r *records) isServed() bool {
	sockets, _ := filepath.Glob(filepath.Join(r.registry, r.driver()+"*-reg.sock")) // a DNS name is a good pattern
	return len(sockets) > 0
}
