// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/sriovkit/sriovkit/libsriov"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/plan"
)

func TestDrainIsAskedForOnce(t *testing.T) {
	s := newStand(t)
	s.kubelet.hold(treeVF0, "user")
	s.refuse = unix.EBUSY
	_, err := s.pass()
	require.NoError(t, err)
	require.Equal(t, []string{v1.DrainRequired, "1", treeVF0, "ns/user"}, []string{s.annotation(v1.AnnotationDesiredState),
		s.annotation(v1.AnnotationDrainRequest), s.annotation(v1.AnnotationDrainVFs), s.annotation(v1.AnnotationDrainPods)})
	require.Contains(t, s.state().Status.Conditions[0].Message, treeVF0+" (pod ns/user)")
	require.Empty(t, s.wrote)

	t.Log("the answer to an earlier wish is none")
	s.answer(v1.DrainComplete, "0")
	_, err = s.pass()
	require.NoError(t, err)
	require.Empty(t, s.wrote)
	require.Equal(t, "1", s.annotation(v1.AnnotationDrainRequest))

	t.Log("on the drained node the change fails, and the node is kept for some more tries")
	s.answer(v1.DrainComplete, "1")
	s.kubelet.hold(treeVF0, "")
	for range drainTries - 1 {
		_, err = s.pass()
		require.ErrorIs(t, err, unix.EBUSY)
		require.Equal(t, v1.DrainRequired, s.annotation(v1.AnnotationDesiredState))
	}
	_, err = s.pass()
	require.ErrorIs(t, err, unix.EBUSY)
	require.Equal(t, v1.DrainIdle, s.annotation(v1.AnnotationDesiredState))
	require.NotContains(t, s.state().Annotations, v1.AnnotationDrainVFs)
	require.NotContains(t, s.state().Annotations, v1.AnnotationDrainPods)
	require.Len(t, s.wrote, drainTries)

	t.Log("the next wish waits for the end of the last drain")
	s.kubelet.hold(treeVF1, "back")
	s.change(func(n *v1.SriovNetworkNodeState) { n.Spec.Interfaces[0].VfGroups[0].ResourceName = "other" })
	_, err = s.pass()
	require.NoError(t, err)
	require.Equal(t, v1.DrainIdle, s.annotation(v1.AnnotationDesiredState), "the old answer would count for it")
	s.answer(v1.DrainIdle, "1")
	s.change(func(n *v1.SriovNetworkNodeState) { n.Spec.Interfaces[0].VfGroups[0].ResourceName = "r" })

	t.Log("the pod is back: the error stays, the node is not drained again, nothing is written")
	_, err = s.pass()
	require.ErrorContains(t, err, "is not drained again until the spec or the hardware changes")
	require.ErrorContains(t, err, "device or resource busy")
	require.ErrorContains(t, err, "VFs in use: "+treeVF1+" (pod ns/back)")
	before := s.writes
	for len(s.events.Events) > 0 {
		<-s.events.Events
	}
	for range 3 {
		_, err = s.pass()
		require.Error(t, err)
		require.Contains(t, s.state().Status.LastSyncError, "device or resource busy")
		require.Equal(t, v1.SyncFailed, s.state().Status.SyncStatus)
	}
	require.Equal(t, before, s.writes)
	require.Empty(t, s.events.Events)
	require.Equal(t, v1.DrainIdle, s.annotation(v1.AnnotationDesiredState))

	t.Log("also after a restart of the daemon")
	s.Daemon = &Daemon{Client: s.Client, Live: s.Client, Events: s.events, Machine: s.Machine, NodeState: s.NodeState, PodResources: s.PodResources}
	_, err = s.pass()
	require.Error(t, err)
	require.Equal(t, before, s.writes)

	t.Log("another spec is another wish")
	s.change(func(n *v1.SriovNetworkNodeState) { n.Spec.Interfaces[0].NumVfs = 3 })
	_, err = s.pass()
	require.NoError(t, err)
	require.Equal(t, []string{v1.DrainRequired, "2"}, []string{s.annotation(v1.AnnotationDesiredState), s.annotation(v1.AnnotationDrainRequest)})
}

// A change that fails permanently is written to the API server once.
func TestPermanentFailureIsReportedOnce(t *testing.T) {
	s := newStand(t)
	s.refuse = unix.EROFS
	_, err := s.pass()
	require.ErrorIs(t, err, unix.EROFS)
	before, said := s.writes, len(s.events.Events)
	require.Equal(t, 1, said, "no word of what was not applied")
	for range 5 {
		_, err = s.pass()
		require.ErrorIs(t, err, unix.EROFS)
	}
	require.Equal(t, before, s.writes)
	require.Len(t, s.events.Events, said)
	require.Equal(t, v1.SyncFailed, s.state().Status.SyncStatus)
}

// The same holds for failures of many VFs, which are configured concurrently, and for a
// message that is cut.
func TestManyFailuresAreReportedOnce(t *testing.T) {
	s := newStand(t)
	addr, err := libsriov.ParseAddress(treePF)
	require.NoError(t, err)
	perVF := map[int][]plan.Step{}
	for i := 10; i < 90; i++ { // none of them is there
		perVF[i] = []plan.Step{{Op: plan.OpBind, VF: i, Driver: v1.DeviceTypeVFIO}}
	}
	first := s.Machine.applyVFs(t.Context(), addr, perVF, &v1.InterfaceExt{PciAddress: treePF})
	require.ErrorContains(t, first, "VF 10 of "+treePF)
	require.Greater(t, len(first.Error()), messageBytes)
	for range 20 {
		require.EqualError(t, s.Machine.applyVFs(t.Context(), addr, perVF, &v1.InterfaceExt{PciAddress: treePF}), first.Error())
	}

	state := s.state()
	s.warn(state, first)
	require.NoError(t, s.report(t.Context(), state, Found{}, failed(v1.ReasonApplyFailed, first)))
	require.Len(t, s.events.Events, 1)
	writes := s.writes
	s.warn(s.state(), first)
	require.NoError(t, s.report(t.Context(), s.state(), Found{}, failed(v1.ReasonApplyFailed, first)))
	require.Len(t, s.events.Events, 1)
	require.Equal(t, writes, s.writes)
}

func TestNoDrainForWhatCannotBeDone(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(s *stand)
		want  string
	}{
		"state cannot be written": {func(s *stand) { s.file("etc/udev") }, "/etc/udev/rules.d is not writable"},
		"records cannot be read":  {func(s *stand) { s.file("etc/sriov-operator/pci") }, "the host was not read whole, nothing is changed"},
		"no vfio, no module of that name": {func(s *stand) {
			s.change(func(n *v1.SriovNetworkNodeState) { n.Spec.Interfaces[0].NumVfs = 3 })
			require.NoError(s.t, os.RemoveAll(filepath.Join(s.root, "sys/module")))
		}, "load module vfio-pci"},
		"no IOMMU": {func(s *stand) {
			s.change(func(n *v1.SriovNetworkNodeState) { n.Spec.Interfaces[0].NumVfs = 3 })
			require.NoError(s.t, os.Remove(filepath.Join(s.root, "sys/devices/pci0000:00", treePF, "iommu_group")))
		}, "is in no IOMMU group"},
		"the kubelet does not answer":  {func(s *stand) { s.PodResources = "/no/such" }, "ask the kubelet which VFs are in use"},
		"the kubelet has just started": {func(s *stand) { s.kubelet.empty = true }, "it lists no pod at all"},
		"another device is at the address": {func(s *stand) {
			s.change(func(n *v1.SriovNetworkNodeState) { n.Spec.Interfaces[0].DeviceID = "1592" })
		}, "planned for device 8086:1592, but 8086:159b is there"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.kubelet.hold(treeVF0, "user")
			tc.spoil(s)
			_, err := s.pass()
			require.ErrorContains(t, err, tc.want)
			require.Contains(t, s.state().Status.LastSyncError, tc.want)
			require.Equal(t, v1.DrainIdle, s.annotation(v1.AnnotationDesiredState))
			require.Empty(t, s.wrote)
		})
	}
}

func (s *stand) file(name string) {
	path := filepath.Join(s.root, name)
	require.NoError(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(s.t, os.WriteFile(path, nil, 0o600))
}

func (s *stand) link(name, target string) {
	require.NoError(s.t, os.Symlink(target, filepath.Join(s.root, "sys/devices/pci0000:00", treePF, name)))
}

// VFs are withdrawn before the daemon asks who holds them: a pod that got one in between
// keeps it.
func TestWithdrawThenAskThenAct(t *testing.T) {
	s := newStand(t)
	s.kubelet.offered = []string{treeVF0, treeVF1}
	rounds := 0
	s.kubelet.asked = func(k *fakeKubelet) {
		b, err := os.ReadFile(filepath.Join(s.root, "etc/sriov-operator/device-plugin/config.json"))
		require.NoError(t, err)
		require.NotContains(t, string(b), treeVF0, "withdrawn before")
		switch rounds++; rounds {
		case 2: // a pod comes just before the device plugin has read it
			k.holders[treeVF0] = "late"
		case 3:
			k.offered = nil
		}
	}
	result, err := s.pass()
	require.NoError(t, err)
	require.Equal(t, 3, rounds)
	require.Equal(t, settle, result.RequeueAfter)
	require.Empty(t, s.wrote)

	_, err = s.pass()
	require.NoError(t, err)
	require.Equal(t, v1.DrainRequired, s.annotation(v1.AnnotationDesiredState), "and a drain is asked for")
	require.Empty(t, s.wrote)

	t.Log("drained, but a pod holds a VF that the drain was not about: it is asked for anew")
	s.answer(v1.DrainComplete, "1")
	s.kubelet.hold(treeVF0, "agent-of-a-daemonset")
	s.kubelet.hold(treeVF1, "late")
	_, err = s.pass()
	require.NoError(t, err)
	require.Empty(t, s.wrote)
	require.Equal(t, []string{v1.DrainRequired, "2", "ns/agent-of-a-daemonset,ns/late"},
		[]string{s.annotation(v1.AnnotationDesiredState), s.annotation(v1.AnnotationDrainRequest), s.annotation(v1.AnnotationDrainPods)})
	_, err = s.pass()
	require.NoError(t, err)
	require.Empty(t, s.wrote, "the answer is to the wish before")

	t.Log("one that comes after the look is spared as well")
	s.answer(v1.DrainComplete, "2")
	s.kubelet.hold(treeVF1, "")
	s.kubelet.offered = []string{treeVF1}
	s.kubelet.asked = func(k *fakeKubelet) { k.holders[treeVF1], k.offered = "later", nil }
	result, err = s.pass()
	require.NoError(t, err)
	require.Equal(t, settle, result.RequeueAfter)
	require.Empty(t, s.wrote)
	s.kubelet.asked = nil
	_, err = s.pass()
	require.NoError(t, err)
	require.Equal(t, []string{"3", "ns/agent-of-a-daemonset,ns/later"}, []string{s.annotation(v1.AnnotationDrainRequest), s.annotation(v1.AnnotationDrainPods)})

	t.Log("what is left after its answer are pods that no drain removes")
	s.answer(v1.DrainComplete, "3")
	s.kubelet.hold(treeVF1, "")
	_, err = s.pass()
	require.ErrorContains(t, err, "create VFs", "these files do not follow what is written to them")
	require.Equal(t, "sriov_numvfs=0", s.wrote[0])
}

func TestHolders(t *testing.T) {
	k, socket := newKubelet(t)
	k.holders["0000:3b:02.0"] = "user"
	claim := func(driver, device string, cdi ...string) *podresources.DynamicResource {
		c := &podresources.ClaimResource{DriverName: driver, DeviceName: device}
		for _, name := range cdi {
			c.CdiDevices = append(c.CdiDevices, &podresources.CDIDevice{Name: name})
		}
		return &podresources.DynamicResource{ClaimNamespace: "ns", ClaimName: "c", ClaimResources: []*podresources.ClaimResource{c}}
	}
	k.claims = []*podresources.DynamicResource{
		claim(v1.DRADriver, "0000-3b-02-1"),
		claim("dra.net", "pci-0000-3b-02-2"),
		claim("sriov.example", "vf3", "sriov.example/net=0000:3b:02.3"),
		claim(v1.DRADriver, "10000-e1-02-3"),
		claim("gpu.example", "gpu-0"),
		claim("gpu.example", "gpu-10000-3b-02-70"),
	}
	held, err := kubelet{socket: socket}.inUse(t.Context(), []v1.InterfaceExt{{VFs: []v1.VirtualFunction{
		{PciAddress: "0000:3b:02.4", Driver: "iavf"}, {PciAddress: "0000:3b:02.5", Driver: "mlx5_vfio_pci"}, {PciAddress: "0000:3b:02.6", Driver: "iavf", Name: "eth0"},
	}}})
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		"0000:3b:02.0": "ns/user", "0000:3b:02.1": "ns/claimant", "0000:3b:02.2": "ns/claimant", "0000:3b:02.3": "ns/claimant", "10000:e1:02.3": "ns/claimant", "0000:3b:02.4": "",
	}, held)

	k.claims = append(k.claims, claim(v1.DRADriver, "vf-7"))
	_, err = kubelet{socket: socket}.inUse(t.Context(), nil)
	require.ErrorContains(t, err, `claim ns/c of pod ns/claimant has device "vf-7"`)
}

func TestDamagedRecordsTouchNothing(t *testing.T) {
	whole := `{"pciAddress":"` + treePF + `","numVfs":2,"externallyManaged":true,"vfGroups":[{"resourceName":"r","deviceType":"vfio-pci","vfRange":"0-1","policyName":"p"}]}`
	for name, record := range map[string]string{
		"empty": "", "torn": whole[:40], "torn at the end": whole[:len(whole)-1], "zeros": "\x00\x00\x00\x00", "null": "null", "a list": "[]", "a word": `"x"`,
		"no field": "{}", "another PF's": `{"pciAddress":"0000:02:00.0","numVfs":2,"vfGroups":[{"vfRange":"0-1"}]}`, "no VFs": `{"pciAddress":"` + treePF + `"}`,
		"no groups": `{"pciAddress":"` + treePF + `","numVfs":2}`, "a number in words": `{"pciAddress":"` + treePF + `","numVfs":"2"}`,
		"odd range": `{"pciAddress":"` + treePF + `","numVfs":2,"vfGroups":[{"vfRange":"0:1"}]}`, "two records": whole + whole, "no text": "\xff\xfe" + whole,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.change(func(n *v1.SriovNetworkNodeState) { n.Spec = v1.SriovNetworkNodeStateSpec{} })
			path := filepath.Join(s.root, s.Machine.Files.ownedDir(), treePF)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, []byte(record), 0o600))
			_, err := s.pass()
			require.ErrorContains(t, err, "what was applied before is not known, so nothing is taken back")
			require.Contains(t, s.state().Status.LastSyncError, "/etc/sriov-operator/pci/"+treePF)
			require.Empty(t, s.wrote)
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, record, string(after))
		})
	}
	t.Run("a directory in its place", func(t *testing.T) {
		s := newStand(t)
		s.change(func(n *v1.SriovNetworkNodeState) { n.Spec = v1.SriovNetworkNodeStateSpec{} })
		require.NoError(t, os.MkdirAll(filepath.Join(s.root, s.Machine.Files.ownedDir(), treePF), 0o755))
		_, err := s.pass()
		require.ErrorContains(t, err, "is a directory")
		require.Empty(t, s.wrote)
	})
}

// own records that the operator has made n VFs of the PF.
func (s *stand) own(n int) {
	s.t.Helper()
	addr, err := libsriov.ParseAddress(treePF)
	require.NoError(s.t, err)
	owned := s.state().Spec.Interfaces[0]
	owned.NumVfs = n
	require.NoError(s.t, s.Machine.Files.Own(s.t.Context(), addr, ownedBy(owned)))
}

// What cannot be read of the host is not taken for absent.
func TestPartialLookTouchesNothing(t *testing.T) {
	for name, spoil := range map[string]func(s *stand){
		"the PF":          func(s *stand) { s.spoil("uevent", treePF) },
		"its VF count":    func(s *stand) { s.spoil("sriov_numvfs", treePF) },
		"one of its VFs":  func(s *stand) { s.spoil("uevent", treeVF1) },
		"the list of PFs": func(s *stand) { require.NoError(s.t, os.RemoveAll(filepath.Join(s.root, "sys/bus/pci/devices"))) },
	} {
		for _, wanted := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				s := newStand(t)
				s.own(2)
				if !wanted {
					s.change(func(n *v1.SriovNetworkNodeState) { n.Spec = v1.SriovNetworkNodeStateSpec{} })
				}
				spoil(s)
				_, err := s.pass()
				require.Error(t, err)
				require.Empty(t, s.wrote)
				require.FileExists(t, filepath.Join(s.root, s.Machine.Files.ownedDir(), treePF))
				require.Equal(t, v1.SyncFailed, s.state().Status.SyncStatus)
			})
		}
	}
}

// A PF that the operator did not know of when it planned is not released, not even between
// the report of it and the next plan.
func TestUnreportedPFIsNotReleased(t *testing.T) {
	for name, noted := range map[string]bool{"operator notes what it knew": true, "older operator": false} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.own(2)
			s.change(func(n *v1.SriovNetworkNodeState) {
				n.Spec = v1.SriovNetworkNodeStateSpec{}
				if delete(n.Annotations, v1.AnnotationPlannedPFs); noted {
					n.Annotations[v1.AnnotationPlannedPFs] = "0000:7f:00.0"
				}
			})
			_, err := s.pass()
			require.NoError(t, err)
			require.Empty(t, s.wrote)
			require.Equal(t, treePF, s.state().Status.Interfaces[0].PciAddress)
			if noted {
				_, err = s.pass()
				require.NoError(t, err)
				require.Empty(t, s.wrote, "reported, but not planned since")
				s.change(func(n *v1.SriovNetworkNodeState) { n.Annotations[v1.AnnotationPlannedPFs] = "0000:7f:00.0," + treePF })
			}
			_, err = s.pass()
			require.NoError(t, err)
			require.Equal(t, []string{"sriov_numvfs=0"}, s.wrote)
		})
	}
}

// spoil makes an attribute unreadable.
func (s *stand) spoil(attribute, device string) {
	path := filepath.Join(s.root, "sys/devices/pci0000:00", device, attribute)
	require.NoError(s.t, os.Remove(path))
	require.NoError(s.t, os.Mkdir(path, 0o755))
}

func TestErrorsOfALookAreSorted(t *testing.T) {
	var f Found
	f.take(errors.Join(&libsriov.DeviceError{Device: treePF, Err: unix.EIO}, errors.Join(unix.EPERM)))
	require.ErrorIs(t, f.Unread[treePF], unix.EIO)
	require.ErrorIs(t, f.Partial, unix.EPERM)
	require.NotErrorIs(t, f.Partial, unix.EIO)
}
