// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
	"github.com/sriovkit/sriovkit/multus-shim/nad"
)

// oldSuffix of a primary network's file that the runtime is to overlook.
const oldSuffix = ".old"

// Run installs and keeps what it installed current until ctx ends. When it is told
// to end and its DaemonSet was deleted, the node is left to the primary network.
func Run(ctx context.Context, o *Options, getenv func(string) string, log *slog.Logger) error {
	if o.Check {
		return check(o)
	}
	return run(ctx, o, getenv, log, &owner{o: o, log: log})
}

func run(ctx context.Context, o *Options, getenv func(string) string, log *slog.Logger, w *owner) error {
	err := keep(ctx, o, getenv, log, w)
	switch {
	case ctx.Err() == nil: // done, or failed and started again soon
		return err
	case o.DaemonSet != "" && w.deleted(context.WithoutCancel(ctx)):
		log.Info("uninstalling", "daemonset", o.DaemonSet)
		return errors.Join(err, cleanup(o))
	case o.Cleanup:
		return errors.Join(err, cleanup(o))
	}
	return err
}

// installer is what is in place and what is known about it.
type installer struct {
	*Options
	getenv     func(string) string
	log        *slog.Logger
	files      files
	copied     map[string]fs.FileInfo // binaries as they were left here
	configured bool
	adapted    bool   // the container runtime is known
	refused    bool   // it is not known, and the API server has refused for long to tell it
	primary    string // path of the primary network's file
	warned     string // the last warning, which is not repeated
	now        func() time.Time

	refusedSince, nextAsk time.Time
}

func (in *installer) warn(message string, err error) {
	if text := message + err.Error(); text != in.warned {
		in.warned = text
		in.log.Warn(message, "err", err) //nolint:sloglint // the callers' messages are constants
	}
}

// keep installs, and again whenever something of it or below it has changed.
func keep(ctx context.Context, o *Options, getenv func(string) string, log *slog.Logger, w *owner) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer watcher.Close()
	in := &installer{Options: o, getenv: getenv, log: log, now: time.Now, files: files{log: log, now: time.Now}, copied: map[string]fs.FileInfo{}}
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for following, missed := false, false; ; {
		// Subscribe first: a change between reading and watching is not missed.
		if err := in.watch(watcher); err != nil {
			return err
		}
		wait, err := in.sync(ctx)
		if errors.Is(err, fs.ErrNotExist) && !missed { // a directory went since it was watched: that makes it anew
			missed = true
			continue
		}
		if err != nil {
			return err
		}
		missed = false
		if o.Once && in.configured {
			return nil
		}
		if o.DaemonSet != "" && !o.Once && !following { // it needs the credentials
			following = true
			all.Go(func() { w.follow(ctx) })
		}
		var again <-chan time.Time
		if wait > 0 {
			again = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again:
		case <-watcher.Events:
			drain(watcher)
		case err := <-watcher.Errors:
			return fmt.Errorf("watch: %w", err)
		}
	}
}

// watch subscribes to every directory in which something of ours, or something it
// is made of, may change. A directory that was removed and made again has another
// identity. Below a mount the old one stays visible: only a new container sees the
// new one, so that is an error.
func (in *installer) watch(w *fsnotify.Watcher) error {
	dirs := []string{in.ServiceAccount, in.PrimaryDir, in.ConfDir, in.credentialsDir()}
	if !in.SkipCopy {
		dirs = append(dirs, in.BinDir)
	}
	for _, dir := range dirs {
		perm := fs.FileMode(0o755)
		if dir == in.credentialsDir() {
			perm = 0o700
		}
		if err := os.MkdirAll(dir, perm); err != nil {
			return err
		}
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink == 0 {
			return fmt.Errorf("%s was removed on the host: a new container mounts the new one", dir)
		}
		if err := w.Add(dir); err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	for _, dir := range linkDirs(in.primary) {
		if err := w.Add(dir); err != nil {
			in.log.Warn("the target of the primary network's link is not watched", "dir", dir, "err", err)
		}
	}
	return nil
}

// linkDirs are the directories on the way from a symbolic link to its file: any of
// them may change what is read.
func linkDirs(path string) []string {
	const maxHops = 10
	var dirs []string
	for range maxHops {
		target, err := os.Readlink(path)
		if err != nil {
			return dirs
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
		dirs = append(dirs, filepath.Dir(path))
	}
	return dirs
}

// sync brings everything up to date and says when it has to be called again, 0 for not
// before something has changed.
func (in *installer) sync(ctx context.Context) (again time.Duration, err error) {
	if err := in.binaries(); err != nil {
		return 0, err
	}
	if err := in.credentials(); err != nil {
		return 0, fmt.Errorf("credentials: %w", err)
	}
	if in.configured && in.SkipWatch {
		return in.files.wait(), nil
	}
	switch err := in.adapt(ctx); {
	case ctx.Err() != nil:
		return 0, nil //nolint:nilerr // told to end in the middle of a question
	case err != nil:
		in.warn("no configuration written", err)
		return runtimePause, nil
	}
	switch err := in.configure(); {
	case errors.Is(err, errNoPrimary):
		in.warn("no configuration written, waiting for the primary network", err)
	case err != nil:
		return 0, err
	default:
		in.configured = true
	}
	return in.wait(), nil
}

// configure brings the configuration up to date. One that is in force stays when
// the primary network's file is missing or does not parse, for it may be half
// written: the next network in order is not what the node's pods are to have.
func (in *installer) configure() error {
	if in.ConfFile != "auto" {
		return in.copyConf()
	}
	force := inForce(in.ConfDir)
	path, primary, err := findPrimary(in.PrimaryDir, in.Primary, primaryInForce(force))
	if errors.Is(err, errNoPrimary) {
		if old, c, ok := in.renamedPrimary(force); ok {
			in.primary = old
			name, data := generate(in.Options, strings.TrimSuffix(filepath.Base(old), oldSuffix), c)
			return in.place(name, data)
		}
	}
	switch {
	case errors.Is(err, errDamaged), errors.Is(err, errNoPrimary) && force != nil:
		in.warn("keeping the configuration in force", err)
		return nil
	case err != nil:
		return err
	}
	in.primary = path
	name, data := generate(in.Options, filepath.Base(path), primary)
	if err := in.place(name, data); err != nil {
		return err
	}
	if in.RenamePrimary {
		return in.files.rename(path, path+oldSuffix)
	}
	return nil
}

// renamedPrimary is the primary network's file under the name that it was given here. What
// the flags say now is to reach a node of which the file was renamed before.
func (in *installer) renamedPrimary(force []byte) (path string, c nad.Config, ok bool) {
	name := primaryInForce(force)
	if name == "" || !in.RenamePrimary {
		return "", nad.Config{}, false
	}
	path = filepath.Join(in.PrimaryDir, name+oldSuffix)
	c, err := readPrimary(path)
	return path, c, err == nil
}

// copyConf installs a finished configuration, if it is one.
func (in *installer) copyConf() error {
	data, err := os.ReadFile(in.ConfFile)
	if err != nil {
		return err
	}
	name, plugin := singleName, data
	if filepath.Ext(in.ConfFile) == ".conflist" {
		var list struct{ Plugins []json.RawMessage }
		if err := json.Unmarshal(data, &list); err != nil || len(list.Plugins) == 0 {
			return fmt.Errorf("-multus-conf-file %s: want a list of plugins, multus first: %w", in.ConfFile, cmp.Or(err, errNoPrimary))
		}
		name, plugin = listName, list.Plugins[0]
	}
	if _, err := conf.Parse(plugin); err != nil {
		return fmt.Errorf("-multus-conf-file %s: %w", in.ConfFile, err)
	}
	return in.place(name, data)
}

func (in *installer) place(name string, data []byte) error {
	if err := in.files.write(filepath.Join(in.ConfDir, name), data); err != nil {
		return err
	}
	for _, other := range []string{singleName, listName} {
		if other == name {
			continue
		}
		if err := removeFile(filepath.Join(in.ConfDir, other)); err != nil {
			return err
		}
	}
	return nil
}

// inForce is the configuration in the directory, nil for none.
func inForce(dir string) []byte {
	for _, name := range []string{singleName, listName} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			continue
		}
		if data, err := os.ReadFile(path); err == nil {
			return data
		}
	}
	return nil
}

// check reports whether this pod's installer is done: the pod before it may go then.
func check(o *Options) error {
	ours, err := os.ReadFile(filepath.Join(o.ServiceAccount, "token"))
	if err != nil {
		return err
	}
	have, err := os.ReadFile(filepath.Join(o.credentialsDir(), tokenName))
	switch {
	case err != nil:
		return err
	case !bytes.Equal(have, ours):
		return errors.New("the token on the node is that of another pod")
	case inForce(o.ConfDir) == nil:
		return errors.New("no configuration is in force: the primary network is missing")
	}
	return nil
}

// drain takes the events that came along with one; a change has several.
func drain(w *fsnotify.Watcher) {
	for {
		select {
		case <-w.Events:
		default:
			return
		}
	}
}
