// SPDX-License-Identifier: Apache-2.0

package stage_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sriovkit/sriovkit/e2e/stage"
)

// log collects progress; builds write to it from several goroutines.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func open(t *testing.T) (*stage.Cache, *log) {
	t.Helper()
	l := &log{}
	t.Setenv("SRIOVKIT_CACHE", t.TempDir())
	c, err := stage.Open(l)
	require.NoError(t, err)
	return c, l
}

// touch is a stage whose build writes one file and counts itself.
func touch(builds *atomic.Int32, inputs ...string) stage.Stage {
	return stage.Stage{Name: "touch", Inputs: inputs, Build: func(ctx context.Context, b *stage.Build) error {
		builds.Add(1)
		_, err := b.Run(ctx, stage.Command{Args: []string{"touch", "result"}})
		return err
	}}
}

func TestBuiltOnce(t *testing.T) {
	c, _ := open(t)
	var builds atomic.Int32
	var wg sync.WaitGroup
	for range 8 { // each Get takes the lock through a file of its own, like another process
		wg.Go(func() {
			dir, err := c.Get(t.Context(), touch(&builds, "a"))
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.Stat(filepath.Join(dir, "result")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, builds.Load())

	_, err := c.Get(t.Context(), touch(&builds, "b"))
	require.NoError(t, err)
	require.EqualValues(t, 2, builds.Load(), "another input, another build")
	_, err = c.Get(t.Context(), touch(&builds, "a"))
	require.NoError(t, err)
	require.EqualValues(t, 2, builds.Load(), "both stay")
	require.NotEqual(t, mustGet(t, c, touch(&builds, "a", "b")), mustGet(t, c, touch(&builds, "ab")), "inputs do not run together")
}

func mustGet(t *testing.T, c *stage.Cache, s stage.Stage) string {
	t.Helper()
	dir, err := c.Get(t.Context(), s)
	require.NoError(t, err)
	return dir
}

// TestFailure expects the end of the output, the path of the log, and nothing
// that the next attempt could take for a result.
func TestFailure(t *testing.T) {
	c, l := open(t)
	fails := stage.Stage{Name: "fails", Build: func(ctx context.Context, b *stage.Build) error {
		b.Step("trying")
		_, err := b.Run(ctx, stage.Command{Args: []string{"sh", "-c", "seq 1 100; printf 'the %s\\n' reason >&2; exit 3"}})
		return err
	}}
	_, err := c.Get(t.Context(), fails)
	require.ErrorContains(t, err, "build fails: sh -c")
	require.ErrorContains(t, err, "exit status 3")
	require.ErrorContains(t, err, "(81 lines before)\n")
	require.ErrorContains(t, err, "\n\t99\n\t100\n")
	log := regexp.MustCompile(`log: (\S+)`).FindStringSubmatch(err.Error())
	require.Len(t, log, 2)
	text, err2 := os.ReadFile(log[1])
	require.NoError(t, err2)
	require.Contains(t, string(text), "the reason\n")
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.False(t, c.Has(fails))
	require.Contains(t, l.String(), "fails: trying\nfails: not built, gave up after")
	left, err := filepath.Glob(filepath.Join(c.Dir, "fails-*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestRoom(t *testing.T) {
	t.Parallel()
	cache := &stage.Cache{Dir: t.TempDir()}
	require.NoError(t, cache.Room(1))
	require.ErrorContains(t, cache.Room(1e18), " GB free at "+cache.Dir+", want 1000000000: make room, or set SRIOVKIT_CACHE")
	require.NoError(t, stage.Room(cache.Dir+"/not/yet", 1))
	require.ErrorContains(t, stage.Room(cache.Dir+"/not/yet", 1e18), " GB free at "+cache.Dir+"/not/yet, want")
	file := filepath.Join(cache.Dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.ErrorIs(t, stage.Room(file+"/below", 1), unix.ENOTDIR)
}

// TestTimeout builds something that starts a child of its own and hangs.
func TestTimeout(t *testing.T) {
	c, _ := open(t)
	pidFile := filepath.Join(t.TempDir(), "pid")
	var pid []byte
	for timeout := 200 * time.Millisecond; len(bytes.TrimSpace(pid)) == 0; timeout *= 2 { // a busy machine may not have come to it
		_, err := c.Get(t.Context(), stage.Stage{Name: "hangs", Timeout: timeout, Build: func(ctx context.Context, b *stage.Build) error {
			_, err := b.Run(ctx, stage.Command{Args: []string{"sh", "-c", "sleep 1000 & echo $! >" + pidFile + "; wait"}})
			return err
		}})
		require.ErrorContains(t, err, "took longer than "+timeout.String())
		pid, _ = os.ReadFile(pidFile)
	}
	require.Eventually(t, func() bool { // gone, or a zombie where nobody reaps
		state, err := os.ReadFile(filepath.Join("/proc", string(bytes.TrimSpace(pid)), "stat"))
		return errors.Is(err, os.ErrNotExist) || bytes.Contains(state, []byte(") Z "))
	}, 5*time.Minute, 10*time.Millisecond, "the whole process group is killed")
}

// TestStopped interrupts a program, which has the time to remove what it has made elsewhere.
func TestStopped(t *testing.T) {
	c, _ := open(t)
	made := filepath.Join(t.TempDir(), "made")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(made); err == nil {
				cancel()
			}
		}
	}()
	_, err := c.Get(ctx, stage.Stage{Name: "stops", Build: func(ctx context.Context, b *stage.Build) error {
		_, err := b.Run(ctx, stage.Command{Args: []string{"sh", "-c", `trap "rm $0; exit 1" INT; touch $0; while :; do sleep 0.01; done`, made}})
		return err
	}})
	require.ErrorIs(t, err, context.Canceled)
	require.NoFileExists(t, made)
	cancel()
}

// TestInterrupted finds what a killed build left behind.
func TestInterrupted(t *testing.T) {
	c, _ := open(t)
	var builds atomic.Int32
	dir := mustGet(t, c, touch(&builds))
	require.NoError(t, os.Rename(dir, dir+".partial"))
	require.NoError(t, os.WriteFile(filepath.Join(dir+".partial", "stale"), nil, 0o600))
	mustGet(t, c, touch(&builds))
	require.EqualValues(t, 2, builds.Load())
	require.NoFileExists(t, filepath.Join(dir, "stale"))
}

func TestEvict(t *testing.T) {
	c, _ := open(t)
	var builds atomic.Int32
	unused, recent := mustGet(t, c, touch(&builds, "unused")), mustGet(t, c, touch(&builds, "recent"))
	long := time.Now().Add(-20 * 24 * time.Hour)
	require.NoError(t, os.Chtimes(unused, long, long))
	other := filepath.Join(c.Dir, "touch-stone-0123456789abcdef") // another stage, whose name begins alike
	require.NoError(t, os.Mkdir(other, 0o755))
	require.NoError(t, os.Chtimes(other, long, long))
	killed := filepath.Join(c.Dir, "touch-0123456789abcdef.partial")
	require.NoError(t, os.Mkdir(killed, 0o755))
	require.NoError(t, os.Chtimes(killed, long, long))
	mustGet(t, c, touch(&builds, "new"))
	require.NoDirExists(t, unused)
	require.NoDirExists(t, killed)
	require.DirExists(t, recent)
	require.DirExists(t, other)
}

func TestKeepLogs(t *testing.T) {
	c, _ := open(t)
	file := filepath.Join(t.TempDir(), "a.log")
	require.NoError(t, os.WriteFile(file, []byte("text"), 0o600))
	dir, err := c.KeepLogs("node1", file)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(dir, "a.log"))
	require.NoError(t, err)
	require.Equal(t, "text", string(text))
}

func TestOpenUnusable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	t.Setenv("SRIOVKIT_CACHE", file)
	_, err := stage.Open(os.Stderr)
	require.ErrorContains(t, err, "set SRIOVKIT_CACHE to a writable directory")
}
