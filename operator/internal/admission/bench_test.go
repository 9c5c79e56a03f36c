// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
)

// BenchmarkPolicy admits one policy to a cluster of 5 000 nodes, of two PFs each, and 4, 20
// or 50 policies: by kind of NIC, and by names that some nodes have.
func BenchmarkPolicy(b *testing.B) {
	for _, policies := range []int{4, 20, 50} {
		b.Run(fmt.Sprint(policies), func(b *testing.B) {
			v := view{namespace: "ns", configured: true}
			for i := range policies {
				v.policies = append(v.policies, benchPolicy(i))
			}
			for i := range 5_000 {
				v.nodes = append(v.nodes, benchNode(i))
			}
			p := benchPolicy(0)
			p.Name, p.Spec.NicSelector.PfNames = "new", []string{"ens0#0-1"}
			cpu := cpuTime(b)
			b.ResetTimer()
			for range b.N {
				var w warnings
				v.policy(p, &w)
			}
			b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/1e3/float64(b.N), "cpu-ms/op")
		})
	}
}

// cpuTime of this process so far: on a busy machine the clock tells little.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchPolicy(i int) *v1.SriovNetworkNodePolicy {
	p := &v1.SriovNetworkNodePolicy{}
	p.Name = fmt.Sprintf("p%d", i)
	p.Spec = v1.SriovNetworkNodePolicySpec{
		ResourceName: fmt.Sprintf("r%d", i), NumVfs: 16, NodeSelector: map[string]string{"kubernetes.io/os": "linux"},
		NicSelector: v1.SriovNetworkNicSelector{Vendor: "8086", PfNames: []string{fmt.Sprintf("ens%d#2-15", i)}},
	}
	return p
}

func benchNode(i int) node {
	n := node{name: fmt.Sprintf("node-%d", i), labels: map[string]string{"kubernetes.io/os": "linux", "kubernetes.io/hostname": fmt.Sprint(i)}}
	n.state = &v1.SriovNetworkNodeState{}
	n.state.Name = n.name
	for p := range 2 {
		n.state.Status.Interfaces = append(n.state.Status.Interfaces, v1.InterfaceExt{
			Name: fmt.Sprintf("ens%d", p), PciAddress: fmt.Sprintf("0000:%02x:00.0", p+1), Vendor: "8086", DeviceID: "159b", Driver: "ice",
			TotalVfs: 64, Mtu: 1500, LinkType: "ETH", PermanentMac: fmt.Sprintf("02:00:00:%02x:%02x:%02x", i>>8, i&255, p),
		})
		n.state.Spec.Interfaces = append(n.state.Spec.Interfaces, v1.Interface{
			Name: fmt.Sprintf("ens%d", p), PciAddress: fmt.Sprintf("0000:%02x:00.0", p+1), Vendor: "8086", DeviceID: "159b", NumVfs: 16,
			Mac:      fmt.Sprintf("02:00:00:%02x:%02x:%02x", i>>8, i&255, p),
			VfGroups: []v1.VfGroup{{ResourceName: fmt.Sprintf("r%d", p), PolicyName: fmt.Sprintf("p%d", p), VfRange: "2-15", DeviceType: "netdevice"}},
		})
	}
	return n
}
