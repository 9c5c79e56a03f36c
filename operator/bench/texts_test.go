// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/sriovkit/sriovkit/operator/api/v1"
	"github.com/sriovkit/sriovkit/operator/internal/nad/nadtest"
)

// BenchmarkTexts measures what a network with texts that are written to cost much costs the
// operator, from its creation to the condition that says what came of it: CPU time, and how far
// its memory rises. Each is to cost at most 50 ms and 20 MiB. $OPERATOR is as for BenchmarkScale.
func BenchmarkTexts(b *testing.B) {
	s := start(b, 0)
	s.operator()
	s.settled()
	for _, ns := range []corev1.Namespace{
		{ObjectMeta: metav1.ObjectMeta{Name: "open"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "narrow", Annotations: map[string]string{v1.AnnotationAllowedPlugins: strings.Repeat("x,", 120<<10)}}},
	} {
		require.NoError(b, s.Create(b.Context(), &ns))
	}
	texts := nadtest.Texts()
	for _, namespace := range []string{"open", "narrow"} {
		b.Run(namespace, func(b *testing.B) {
			s.b = b
			for range b.N {
				s.text(namespace, "first", "an ordinary one", nadtest.Text{IPAM: `{"type":"host-local"}`}) // what comes once
				var most cost
				for i, name := range slices.Sorted(maps.Keys(texts)) {
					c := s.text(namespace, fmt.Sprintf("n%d", i), name, texts[name])
					most.cpu, most.memory, most.wall = max(most.cpu, c.cpu), max(most.memory, c.memory), max(most.wall, c.wall)
				}
				b.ReportMetric(most.cpu.Seconds()*1000, "most-cpu-ms")
				b.ReportMetric(most.memory, "most-MiB")
				b.ReportMetric(most.wall.Seconds()*1000, "longest-ms")
			}
		})
	}
}

type cost struct {
	cpu, wall time.Duration
	memory    float64 // MiB
}

// text makes a network and takes it away again.
func (s *scale) text(namespace, object, name string, text nadtest.Text) cost {
	s.b.Helper()
	ctx := s.b.Context()
	n := &v1.SriovNetwork{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: object}}
	n.Spec = v1.SriovNetworkSpec{ResourceName: "r", IPAM: text.IPAM, MetaPluginsConfig: text.MetaPlugins, Capabilities: text.Capabilities}
	proc := filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid))
	require.NoError(s.b, os.WriteFile(filepath.Join(proc, "clear_refs"), []byte("5"), 0)) // the peak from now on
	cpu, memory, begun := s.cpuTime(), s.rss(), time.Now()
	err := s.Create(ctx, n)
	if apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
		fmt.Fprintf(os.Stderr, "%-7s %-28s refused: %.80s\n", namespace, name, err)
		return cost{}
	}
	require.NoError(s.b, err, name)
	var ready *metav1.Condition
	for ready == nil {
		require.Less(s.b, time.Since(begun), patience, "%s: no condition", name)
		time.Sleep(time.Millisecond)
		require.NoError(s.b, s.Get(ctx, client.ObjectKeyFromObject(n), n))
		ready = meta.FindStatusCondition(n.Status.Conditions, v1.ConditionReady)
	}
	c := cost{wall: time.Since(begun)}
	time.Sleep(50 * time.Millisecond) // what follows of it: the events of its own writes
	c.cpu, c.memory = s.cpuTime()-cpu, peak(s.b, proc)-memory
	fmt.Fprintf(os.Stderr, "%-7s %-28s %6.1f ms CPU, %5.1f MiB, %5.0f ms to %s, message of %d bytes\n",
		namespace, name, c.cpu.Seconds()*1000, c.memory, c.wall.Seconds()*1000, ready.Reason, len(ready.Message))
	assert.Less(s.b, len(ready.Message), 4096, name)
	require.NoError(s.b, s.Delete(ctx, n))
	return c
}

// cpuTime of the operator so far: its CPU clock, clock_getcpuclockid(3).
func (s *scale) cpuTime() time.Duration {
	const scheduled = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	require.NoError(s.b, unix.ClockGettime(int32(^s.cmd.Process.Pid<<3|scheduled), &t))
	return time.Duration(t.Nano())
}

// peak of a process' memory, MiB: VmHWM of proc_pid_status(5).
func peak(b *testing.B, proc string) float64 {
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	require.NoError(b, err)
	_, rest, found := strings.Cut(string(status), "VmHWM:")
	require.True(b, found)
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	require.NoError(b, err)
	return kib / 1024
}
