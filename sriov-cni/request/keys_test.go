// SPDX-License-Identifier: Apache-2.0

package request

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sriovkit/sriovkit/sriov-cni/cnierr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Each key of the configuration, by its path, is refused with a message that
// names it when its value cannot be one.
func TestBadValuesOfEveryKey(t *testing.T) { // not parallel: it looks at the memory that the process takes
	huge, deep := strings.Repeat("x", 1<<20), strings.Repeat("[", 10000)+strings.Repeat("]", 10000)
	for path, keys := range known {
		for _, key := range keys {
			for kind, value := range map[string]string{
				"null": "null", "list": "[5]", "object": `{"":5}`, "1 MiB": `"` + huge + `"`, "deep": deep, "twice": "", "capitals": "",
			} {
				var text string
				switch kind {
				case "twice":
					text = fmt.Sprintf(`%q:"on",%q:"on"`, key, key)
				case "capitals":
					text = fmt.Sprintf(`%q:"on"`, strings.ToUpper(key))
				default:
					text = fmt.Sprintf(`%q:%s`, key, value)
				}
				name := key
				if path != "" {
					text, name = fmt.Sprintf(`%q:{%s}`, path, text), path+"."+key
					if kind == "deep" {
						name = path
					}
				}
				if kind == "object" && (known[key] != nil || slices.Contains(strings.Fields("dns args capabilities prevResult disableCheck disableGC"), key)) ||
					kind == "list" && slices.Contains(strings.Fields("args prevResult disableCheck disableGC"), key) {
					continue // what is in it is another key's matter, or the runtime's
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				start := time.Now()
				stdin := "{" + text + "}"
				if key != "deviceID" && kind != "twice" {
					stdin = `{"deviceID":"0000:af:06.0",` + text + "}"
				}
				_, err := Parse([]byte(stdin), "")
				assert.Less(t, time.Since(start), 30*time.Second, "%s as %s: quadratic work takes minutes", name, kind)
				runtime.ReadMemStats(&after)
				assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20), "%s as %s", name, kind)
				var f *cnierr.Error
				if assert.ErrorAs(t, err, &f, "%s as %s", name, kind) {
					assert.Equal(t, types.ErrInvalidNetworkConfig, f.Code, "%s as %s: %s", name, kind, err)
					assert.Contains(t, strings.ToLower(err.Error()), strings.ToLower(name), kind)
					assert.Less(t, len(err.Error()), 500, kind)
				}
			}
		}
	}
}

func TestMembers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]member{
		`{}`:                                 nil,
		`[{"a":1}]`:                          nil,
		"\t{\"a\":1 , \"b\":\"x,}\"}":        {{"a", []byte("1")}, {"b", []byte(`"x,}"`)}},
		`{"a":{"b":[1,{"c":2}]},"d\"":"\\"}`: {{"a", []byte(`{"b":[1,{"c":2}]}`)}, {`d"`, []byte(`"\\"`)}},
		`{"device\u0049D":null}`:             {{"deviceID", []byte("null")}},
	} {
		var got []member
		err := members([]byte(text), func(m member) { got = append(got, m) })
		require.NoError(t, err)
		assert.Equal(t, want, got, text)
	}
}

func TestUnknownKeys(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 50000 {
		fmt.Fprintf(&b, `"key%d":1,`, i)
	}
	runtime.LockOSThread() // of which the time is told: other work on the machine does not count
	defer runtime.UnlockOSThread()
	start := threadTime(t)
	r, err := Parse([]byte("{"+b.String()+minimal+"}"), "")
	took := threadTime(t) - start
	require.NoError(t, err)
	assert.Len(t, r.Unknown, 50000)
	assert.Less(t, took, 2*time.Second, "quadratic work takes longer")
}

// threadTime is the CPU time that the calling thread has had.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var r unix.Rusage
	require.NoError(t, unix.Getrusage(unix.RUSAGE_THREAD, &r))
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// What GC is to leave alone, it understands whole or not at all.
func TestValidAttachments(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		`[]`: 0, `[{"containerID":"c0ffee","ifname":"net1"},{"containerID":"c0ffee","ifname":"net2"}]`: 2,
		`null`: -1, `[null]`: -1, `[{}]`: -1, `[[]]`: -1, `{}`: -1, `"c0ffee"`: -1, `[{"containerID":"c0ffee"}]`: -1, `[{"ifname":"net1"}]`: -1,
		`[{"containerID":7,"ifname":"net1"}]`: -1, `[{"container_id":"c0ffee","ifname":"net1"}]`: -1, `[],"` + ValidAttachments + `":[]`: -1,
	} {
		stdin := []byte(`{"cniVersion":"1.1.0","name":"n","` + ValidAttachments + `":` + text + `}`)
		_, err := Basics(stdin)
		require.NoError(t, err, "other commands do not read it")
		got, err := Valid(stdin)
		if want < 0 {
			assert.ErrorContains(t, err, ValidAttachments, text)
			continue
		}
		require.NoError(t, err, text)
		assert.Len(t, got, want)
	}
	_, err := Valid([]byte(`{"cniVersion":"1.1.0","name":"n"}`))
	assert.ErrorContains(t, err, "GC needs "+ValidAttachments)
}

// What arrives is bounded before anything is made of it, but for DEL.
func TestCheckStdin(t *testing.T) {
	t.Parallel()
	list := `"` + ValidAttachments + `":[` + strings.Repeat(`{},`, maxValue/3) + `{}]`
	many := strings.Repeat(`"a":1,`, maxKeys) + `"b":1`
	for _, tc := range []struct{ command, keys, want string }{
		{"ADD", `"a":1`, ""},
		{"ADD", strings.TrimSuffix(many, `,"b":1`), ""},
		{"ADD", many, "more than 4096 keys"},
		{"GC", many, "more than 4096 keys"},
		{"DEL", many, ""},
		{"GC", list, ""},
		{"ADD", list, ValidAttachments},
		{"CHECK", list, ValidAttachments},
		{"DEL", list, ""},
		{"STATUS", `"CNIVersion":"1.0.0","cniVersion":"1.1.0"`, "cniVersion: the key is there twice"},
	} {
		if err := CheckStdin([]byte("{"+tc.keys+"}"), tc.command); tc.want == "" {
			assert.Nil(t, err, "%s %.60s", tc.command, tc.keys)
		} else if assert.NotNil(t, err, "%s %.60s", tc.command, tc.keys) {
			assert.Contains(t, err.Msg, tc.want)
		}
	}
}
