// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/sriovkit/sriovkit/libsriov/value"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// Op is a kind of change to a node.
type Op string

// The operations, in the order in which they happen on one PF.
const (
	OpRdmaOption Op = "write RDMA mode for later boots" // Step.Mode, "" for none; node-wide
	OpRdmaMode   Op = "set RDMA mode"                   // Step.Mode; node-wide
	OpOwn        Op = "record ownership"                // of the PF: Step.Want
	OpRemove     Op = "remove VFs"                      // all of the PF
	OpEswitch    Op = "set eswitch mode"                // Step.Mode
	OpLinkUp     Op = "set link up"                     // of the PF
	OpPFMTU      Op = "set MTU of the PF"               // Step.Num bytes
	OpOffload    Op = "set hw-tc-offload"               // of a PF in switchdev mode
	OpCreate     Op = "create VFs"                      // Step.Num of them
	OpGUID       Op = "set GUID"                        // of InfiniBand VF Step.VF: Step.GUID, "" is a random one
	OpMAC        Op = "set administrative MAC"          // of Ethernet VF Step.VF: Step.MAC
	OpBind       Op = "bind driver"                     // of VF Step.VF: Step.Driver, "" is the kernel's choice
	OpVDPA       Op = "set vDPA device"                 // of VF Step.VF: Step.Mode, "virtio" or "vhost"; "" is none
	OpVFMTU      Op = "set MTU of the VF"               // of VF Step.VF: Step.Num bytes
	OpDisown     Op = "drop ownership"                  // of the PF, of which nothing is configured any more
)

// Step is one change.
type Step struct {
	Op     Op
	VF     int // index; meaningful for OpGUID, OpMAC, OpBind, OpVDPA and OpVFMTU
	Num    int
	Driver string
	Mode   string
	GUID   string
	MAC    string
	Want   v1.Interface // of OpOwn
	// Disturbs are the PCI addresses of the VFs whose users would notice the step.
	Disturbs []string
	// Yields marks a step that is left out while a VF that it disturbs is in use.
	Yields bool
}

// Work is the steps for one PF, in order. It does not depend on the work of other PFs.
type Work struct {
	PF    string // PCI address; "" is the node itself
	Steps []Step
}

// Disturbs returns the VFs that any of the steps disturbs, each once.
func (w *Work) Disturbs() []string {
	var out []string
	for _, s := range w.Steps {
		out = append(out, s.Disturbs...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Problem is a part of the spec that no step can bring about.
type Problem struct {
	PF  string // PCI address; "" is the node itself
	Err error
}

// Have is what the daemon sees now.
type Have struct {
	Interfaces []v1.InterfaceExt
	RdmaMode   string           // "" without an RDMA subsystem
	RdmaErr    error            // the mode could not be read, and is left alone
	RdmaOption string           // the mode for later boots that the daemon's file asks for; "" without a file
	Owned      map[string]Owned // by PCI address: what was applied before
	// Planned reports whether the operator has planned this node. Until then nothing is
	// removed: an empty spec may only mean that the operator has not come to it yet.
	Planned bool
	// Unreported are the PFs, by PCI address, that the operator did not know of when it
	// planned. They are not released for not being in the spec.
	Unreported map[string]bool
	GUIDs      *GUIDPool // nil if there is none
	// NoMAC are the VFs, by PCI address, without an administrative MAC.
	NoMAC map[string]bool
	// Bound are the VFs, by PCI address, whose driver a ResourceClaim has asked for. The DRA
	// driver binds them, and restores their driver when the claim ends.
	Bound map[string]bool
	// OurVDPA are the VFs, by PCI address, that have a vDPA device with a name that the daemon
	// gives.
	OurVDPA map[string]bool
	// NoOffload are the PFs in switchdev mode, by PCI address, with hw-tc-offload off.
	NoOffload map[string]bool
	// Partial is a failure to read the host that cannot be attributed to a device. Nothing
	// is changed then.
	Partial error
	// Unread are the failures to read single devices, by PCI address. Those devices are not
	// changed.
	Unread map[string]error
}

// Owned is the daemon's record of a PF: what was applied to it, and what to restore.
type Owned struct {
	v1.Interface
	// OriginalMTU is the PF's MTU before, in bytes; 0 if it was not recorded.
	OriginalMTU int `json:"originalMtu,omitempty"`
	// Unreadable is why the record could not be read. The file still proves that something
	// was applied.
	Unreadable error `json:"-"`
}

// Steps returns the work that turns have into want, ordered by PF address, and what cannot
// be brought about. Without either, the node is as it should be.
func Steps(have Have, want v1.SriovNetworkNodeStateSpec) ([]Work, []Problem) {
	if have.Partial != nil {
		return nil, []Problem{{Err: fmt.Errorf("the host was not read whole, nothing is changed: %w", have.Partial)}}
	}
	var works []Work
	var problems []Problem
	add := func(w Work, err error) {
		if err != nil {
			problems = append(problems, Problem{w.PF, err})
		}
		if len(w.Steps) > 0 {
			works = append(works, w)
		}
	}
	add(rdmaMode(have, want.System.RdmaMode))

	found := make(map[string]*v1.InterfaceExt, len(have.Interfaces))
	for i := range have.Interfaces {
		found[have.Interfaces[i].PciAddress] = &have.Interfaces[i]
	}
	wanted := make(map[string]bool, len(want.Interfaces))
	for _, w := range want.Interfaces {
		wanted[w.PciAddress] = true
		pf := found[w.PciAddress]
		if err := checkPremise(have, w, pf); err != nil {
			add(Work{PF: w.PciAddress}, err)
			continue
		}
		before, owned := have.Owned[w.PciAddress]
		if before.Unreadable != nil || !SameDevice(before.Interface, pf) {
			before, owned = Owned{}, false
		}
		add(configure(have, pf, w, before, owned))
	}
	for addr, before := range have.Owned {
		if !wanted[addr] && have.Planned && (!have.Unreported[addr] || before.Unreadable != nil) {
			add(release(have, addr, found[addr], before))
		}
	}
	slices.SortFunc(works, func(a, b Work) int { return cmp.Compare(a.PF, b.PF) })
	slices.SortFunc(problems, func(a, b Problem) int { return cmp.Compare(a.PF, b.PF) })
	return works, problems
}

// checkPremise returns an error unless the PF is known to be the device that its plan was
// made for.
func checkPremise(have Have, want v1.Interface, pf *v1.InterfaceExt) error {
	switch {
	case pf == nil && have.Unread[want.PciAddress] != nil:
		return fmt.Errorf("the PF cannot be read: %w", have.Unread[want.PciAddress])
	case pf == nil:
		return errors.New("the PF is not there; if it was taken out for good, delete this SriovNetworkNodeState, and it is planned anew")
	case !SameDevice(want, pf):
		return fmt.Errorf("planned for device %s, but %s is there: left alone until it is planned",
			device(want.Vendor, want.DeviceID, want.Mac), device(pf.Vendor, pf.DeviceID, pf.PermanentMac))
	}
	return checkRead(have, pf)
}

// checkRead returns an error if the PF or some of its VFs could not be read. A VF that was
// not read may be in use.
func checkRead(have Have, pf *v1.InterfaceExt) error {
	if err := have.Unread[pf.PciAddress]; err != nil {
		return fmt.Errorf("was not read whole, nothing of it is changed: %w", err)
	}
	if len(pf.VFs) != pf.NumVfs {
		return fmt.Errorf("has %d VFs, of which %d were read: nothing of it is changed", pf.NumVfs, len(pf.VFs))
	}
	return nil
}

func rdmaMode(have Have, want string) (Work, error) {
	var w Work
	if have.RdmaErr != nil {
		return w, nil // whoever read it reports the error
	}
	if have.RdmaMode == "" {
		if want != "" && want != "shared" {
			return w, fmt.Errorf("RDMA mode %s: the node has no RDMA subsystem", want)
		}
		return w, nil
	}
	ours := have.RdmaOption == "exclusive" || have.RdmaOption == "shared"
	if have.RdmaOption != want && (want != "" || have.Planned && ours) {
		w.Steps = append(w.Steps, Step{Op: OpRdmaOption, Mode: want})
	}
	if want != "" && want != have.RdmaMode {
		w.Steps = append(w.Steps, Step{Op: OpRdmaMode, Mode: want})
	}
	return w, nil
}

// configure returns the steps that bring a PF to want. An error that comes with steps is
// about single VFs.
func configure(have Have, pf *v1.InterfaceExt, want v1.Interface, before Owned, owned bool) (Work, error) {
	w := Work{PF: pf.PciAddress}
	if err := checkReachable(pf, want); err != nil {
		return w, err
	}
	recreate := !want.ExternallyManaged && !pf.Virtual() &&
		(pf.NumVfs != want.NumVfs || eswitch(pf.EswitchMode) != eswitch(want.EswitchMode))
	if recreate && pf.NumVfs > 0 {
		w.Steps = append(w.Steps, Step{Op: OpRemove, Disturbs: addresses(pf.VFs)})
	}
	changesMode := eswitch(pf.EswitchMode) != eswitch(want.EswitchMode)
	if changesMode {
		w.Steps = append(w.Steps, Step{Op: OpEswitch, Mode: eswitch(want.EswitchMode)})
	}
	if want.EswitchMode == v1.EswitchSwitchdev && (changesMode || have.NoOffload[pf.PciAddress]) && !want.ExternallyManaged {
		w.Steps = append(w.Steps, Step{Op: OpOffload})
	}
	if !want.ExternallyManaged && !pf.Virtual() {
		if pf.LinkAdminState == "down" {
			w.Steps = append(w.Steps, Step{Op: OpLinkUp})
		}
		if want.Mtu > pf.Mtu && pf.Name != "" {
			w.Steps = append(w.Steps, Step{Op: OpPFMTU, Num: want.Mtu})
		}
	}
	vfs := pf.VFs
	if recreate {
		w.Steps = append(w.Steps, Step{Op: OpCreate, Num: want.NumVfs})
		vfs = make([]v1.VirtualFunction, want.NumVfs) // not created yet, so without addresses and drivers
		for i := range vfs {
			vfs[i].VfID = i
		}
	}
	var errs []error
	for i := range vfs {
		steps := vfSteps(&vfs[i], pf.Virtual(), &have, want, before.Interface)
		steps = macSteps(pf, &vfs[i], want, have.NoMAC, steps)
		steps, err := guidSteps(pf, &vfs[i], want, have.GUIDs, steps)
		w.Steps, errs = append(w.Steps, steps...), append(errs, err)
	}
	if !owned || !sameInterface(before.Interface, want) {
		w.Steps = slices.Insert(w.Steps, 0, Step{Op: OpOwn, Want: want})
	}
	return w, errors.Join(errs...)
}

// checkReachable returns why a PF cannot be brought to want, nil if it can.
func checkReachable(pf *v1.InterfaceExt, want v1.Interface) error {
	differs := eswitch(pf.EswitchMode) != eswitch(want.EswitchMode)
	switch {
	case pf.Driver == "" && !pf.Virtual():
		return fmt.Errorf("the PF has no driver: load the module of device %s:%s, or bind it to its driver", pf.Vendor, pf.DeviceID)
	case want.NumVfs > pf.TotalVfs:
		return fmt.Errorf("%d VFs wanted, the device has %d%s", want.NumVfs, pf.TotalVfs, firmwareHint(pf, want.NumVfs))
	case differs && pf.EswitchMode == "":
		return fmt.Errorf("eSwitchMode %s: the driver %s does not offer eswitch modes through devlink", want.EswitchMode, pf.Driver)
	case want.ExternallyManaged && pf.NumVfs < want.NumVfs:
		return fmt.Errorf("externallyManaged: %d VFs wanted, %d exist; create them", want.NumVfs, pf.NumVfs)
	case want.ExternallyManaged && differs:
		return fmt.Errorf("externallyManaged: eSwitchMode %s wanted, the PF is in %s; switch it", eswitch(want.EswitchMode), eswitch(pf.EswitchMode))
	case want.ExternallyManaged && want.Mtu > pf.Mtu:
		return fmt.Errorf("externallyManaged: MTU %d wanted, the PF has %d; raise it", want.Mtu, pf.Mtu)
	}
	return nil
}

// vfSteps returns the steps that bring a VF to what its group asks for. Two kinds of VFs
// are left alone: one that is bound as a ResourceClaim asks, and one in no group, unless
// it still has the driver that an earlier group gave it.
func vfSteps(vf *v1.VirtualFunction, virtual bool, have *Have, want, before v1.Interface) []Step {
	if have.Bound[vf.PciAddress] {
		return nil
	}
	g, ok := GroupOf(want, vf.VfID)
	if endsVDPA(g, ok, vf, have.OurVDPA[vf.PciAddress], before) {
		return []Step{vdpaStep(vf, "")}
	}
	if !ok {
		if old, had := GroupOf(before, vf.VfID); had && old.DeviceType == v1.DeviceTypeVFIO && vf.Driver == v1.DeviceTypeVFIO {
			return []Step{{Op: OpBind, VF: vf.VfID, Disturbs: []string{vf.PciAddress}}}
		}
		return nil
	}
	var out []Step
	switch {
	case serves(g, vf), keepsVDPA(g, vf):
	case g.VdpaType != "":
		out = append(out, vdpaStep(vf, g.VdpaType))
	default:
		s := Step{Op: OpBind, VF: vf.VfID}
		if g.DeviceType == v1.DeviceTypeVFIO {
			s.Driver = v1.DeviceTypeVFIO
		}
		if vf.PciAddress != "" {
			s.Disturbs = []string{vf.PciAddress}
		}
		out = append(out, s)
	}
	// The MTU can be read and set only while the VF's netdev is in the host's namespace. A
	// netdev in a pod (driver, but no name) has the MTU that the pod asked for.
	unseen := vf.PciAddress == "" || len(out) > 0
	if g.Mtu > 0 && !virtual && g.DeviceType != v1.DeviceTypeVFIO && g.VdpaType != v1.VdpaTypeVhost && (unseen || vf.Name != "" && vf.Mtu != g.Mtu) {
		out = append(out, Step{Op: OpVFMTU, VF: vf.VfID, Num: g.Mtu})
	}
	return out
}

// release returns the steps that undo what was applied to a PF that no policy selects any
// more.
func release(have Have, addr string, pf *v1.InterfaceExt, before Owned) (Work, error) {
	w := Work{PF: addr}
	switch {
	case before.Unreadable != nil:
		return w, fmt.Errorf("what was applied before is not known, so nothing is taken back; remove the record to leave the PF as it is: %w",
			before.Unreadable)
	case pf == nil && have.Unread[addr] != nil:
		return w, fmt.Errorf("the PF cannot be read, so nothing is taken back: %w", have.Unread[addr])
	case pf == nil || !SameDevice(before.Interface, pf): // the device is gone: only its record is left
		w.Steps = []Step{{Op: OpDisown}}
		return w, nil
	}
	if err := checkRead(have, pf); err != nil {
		return w, err
	}
	if before.ExternallyManaged || pf.Virtual() {
		for i := range pf.VFs {
			w.Steps = append(w.Steps, vfSteps(&pf.VFs[i], true, &have, v1.Interface{}, before.Interface)...)
		}
	} else {
		if pf.NumVfs > 0 {
			w.Steps = append(w.Steps, Step{Op: OpRemove, Disturbs: addresses(pf.VFs)})
		}
		if eswitch(before.EswitchMode) == v1.EswitchSwitchdev && pf.EswitchMode == v1.EswitchSwitchdev {
			w.Steps = append(w.Steps, Step{Op: OpEswitch, Mode: v1.EswitchLegacy})
		}
		// An MTU that somebody else has set since is left.
		if before.OriginalMTU > 0 && before.OriginalMTU < pf.Mtu && pf.Mtu == before.Mtu {
			w.Steps = append(w.Steps, Step{Op: OpPFMTU, Num: before.OriginalMTU})
		}
	}
	w.Steps = append(w.Steps, Step{Op: OpDisown})
	return w, nil
}

// GroupOf returns the group that a VF belongs to.
func GroupOf(i v1.Interface, vf int) (v1.VfGroup, bool) {
	for _, g := range i.VfGroups {
		if r, err := ParseRange(g.VfRange); err == nil && r.Contains(vf) {
			return g, true
		}
	}
	return v1.VfGroup{}, false
}

// DriverFits reports whether driver serves the device type: for vfio-pci any driver of the
// vfio kind, such as mlx5_vfio_pci; for netdevice one that drives the function in the
// kernel, which uio drivers and pci-stub do not.
func DriverFits(deviceType, driver string) bool {
	if deviceType == v1.DeviceTypeVFIO {
		return value.DriverKindOf(driver) == value.VFIO
	}
	return value.DriverKindOf(driver) == value.Kernel
}

func eswitch(mode string) string { return cmp.Or(mode, v1.EswitchLegacy) }

func addresses(vfs []v1.VirtualFunction) []string {
	out := make([]string, len(vfs))
	for i := range vfs {
		out[i] = vfs[i].PciAddress
	}
	return out
}

// sameInterface compares all fields but the interface's names, which may change with the
// host's naming rules.
func sameInterface(a, b v1.Interface) bool {
	a.Name, b.Name, a.AltNames, b.AltNames = "", "", nil, nil
	return equality.Semantic.DeepEqual(a, b)
}
