// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sriovkit/sriovkit/multus-shim/internal/apitest"
)

// repeat returns the inside of a JSON list of n elements.
func repeat(element string, n int) string {
	return strings.TrimSuffix(strings.Repeat(element+",", n), ",")
}

// measured runs an ADD with the pod's annotation from the API server, which has no
// limit of an environment or a pipe.
func (e *env) measured(annotation string) (out outcome, usage syscall.Rusage) {
	e.t.Helper()
	e.annotations = nil
	e.api.PutPod(podNS, podName, podUID, map[string]string{"k8s.v1.cni.cncf.io/networks": annotation})
	cmd := e.command("ADD", e.stdin(nil))
	var stdout strings.Builder
	cmd.Stdout = &stdout
	err := cmd.Run()
	out = outcome{Stdout: stdout.String(), Exit: cmd.ProcessState.ExitCode()}
	if err != nil {
		out.Err = &types.Error{}
		require.NoError(e.t, json.Unmarshal([]byte(stdout.String()), out.Err))
	}
	return out, *cmd.ProcessState.SysUsage().(*syscall.Rusage)
}

func TestManyNetworks(t *testing.T) {
	t.Parallel()
	t.Run("beyond the limit nothing is asked for", func(t *testing.T) {
		t.Parallel()
		for _, value := range []string{
			repeat("n", 65), repeat("n", 20000), repeat("n@a", 40000), "[" + repeat(`{"name":"n"}`, 65) + "]", "[" + repeat(`{"name":"n"}`, 19000) + "]",
		} {
			e := newEnv(t)
			e.detect()
			out, usage := e.measured(value)
			require.NotNil(t, out.Err)
			assert.Equal(t, types.ErrInvalidNetworkConfig, out.Err.Code)
			assert.Contains(t, out.Err.Msg, "more than the 64 a pod may select (maxNetworks")
			assert.Equal(t, []string{"GET pod1", "POST events"}, e.asked())
			assert.Less(t, usage.Maxrss, memoryLimit(60<<10), "KiB")
		}
	})
	t.Run("at the limit", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.nad("neta", "")
		e.networks(repeat("neta", 64))
		e.must("ADD")
		assert.Len(t, e.calls(), 65)
	})
	t.Run("the administrator's limit", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		e.conf["maxNetworks"] = 2
		e.networks("neta,neta,neta")
		e.mustFail("ADD", types.ErrInvalidNetworkConfig, "3 networks are more than the 2")
	})
	t.Run("few at a time, and none after a refusal", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t)
		var now, most atomic.Int64
		e.api.Fault(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet || strings.Contains(r.URL.Path, "/pods/") {
				return false
			}
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m; m = most.Load() {
				if most.CompareAndSwap(m, n) {
					break
				}
			}
			apitest.Fail(w, http.StatusNotFound, strings.Repeat("no such network ", 100))
			return true
		})
		var all []string
		for i := range 64 {
			all = append(all, fmt.Sprintf("net%d", i))
		}
		out, _ := e.measured(strings.Join(all, ","))
		require.NotNil(t, out.Err)
		assert.LessOrEqual(t, most.Load(), int64(8))
		assert.LessOrEqual(t, len(e.api.Requests()), 2*8+2, "of 64")
		assert.LessOrEqual(t, len(out.Err.Msg), 4200)
	})
}

// The process has to read and to print what it got; that is all it takes. "flat" and
// "unknown keys" are accepted and so cost most: about 1 µs of CPU per key, linear in their
// number, with 45 000 keys some 40 ms more than without. Half is reading and merging them,
// half writing the record and libcni's entries, before and after ADD.
func TestNestedInput(t *testing.T) {
	t.Parallel()
	const size = 256<<10 - 100
	nested := func(n int) string { return strings.Repeat(`{"a":`, n/6) + "1" + strings.Repeat("}", n/6) }
	flat := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":1`, i)
		}
		return b.String()
	}
	for name, tc := range map[string]struct {
		annotation, nad string
		refused         string
	}{
		"annotation":   {annotation: `[{"name":"neta","cni-args":` + nested(size) + `}]`, nad: `{"type":"recorder"}`, refused: "nested deeper"},
		"brackets":     {annotation: strings.Repeat("[", size), nad: `{"type":"recorder"}`, refused: "nested deeper"},
		"NAD":          {annotation: `neta`, nad: `{"type":"recorder","args":{"cni":` + nested(size) + `}}`, refused: "nested deeper"},
		"both":         {annotation: `[{"name":"neta","cni-args":` + nested(12<<10) + `}]`, nad: `{"type":"recorder","args":{"cni":` + nested(12<<10) + `}}`, refused: "nested deeper"},
		"flat":         {annotation: `[{"name":"neta","cni-args":{` + flat(15000)[1:] + `}}]`, nad: `{"type":"recorder","args":{"cni":{` + flat(30000)[1:] + `}}}`},
		"unknown keys": {annotation: `[{"name":"neta"` + flat(20000) + `}]`, nad: `{"type":"recorder"` + flat(30000) + `}`},
		"numbers":      {annotation: `[{"name":"neta","bandwidth":{"ingressRate":` + strings.Repeat("9", 200000) + `}}]`, nad: `{"type":"recorder"}`, refused: "bandwidth"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.api.PutNAD(podNS, "neta", tc.nad, nil)
			out, usage := e.measured(tc.annotation)
			if tc.refused != "" {
				require.NotNil(t, out.Err)
				assert.Contains(t, out.Err.Msg, tc.refused)
				assert.LessOrEqual(t, len(out.Err.Msg), 4200)
			} else {
				require.Nil(t, out.Err)
			}
			assert.Less(t, usage.Maxrss, memoryLimit(100<<10), "KiB")
			assert.Less(t, time.Duration(usage.Utime.Nano()+usage.Stime.Nano()), 5*time.Second, "quadratic work takes minutes")
		})
	}
}
