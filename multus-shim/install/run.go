package install

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"

	"github.com/sriovkit/sriovkit/multus-shim/conf"
)

// oldSuffix of a primary network's file that the runtime is to overlook.
const oldSuffix = ".old"

// Run installs and keeps what it installed current until ctx ends. When it is told
// to end and its DaemonSet was deleted, the node is left to the primary network.
func Run(ctx context.Context, o *Options, getenv func(string) string, log *slog.Logger) error {
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

// keep installs, and again whenever something of it or below it has changed.
func keep(ctx context.Context, o *Options, getenv func(string) string, log *slog.Logger, w *owner) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer watcher.Close()
	// Subscribe first: a change between reading and watching is not missed.
	dirs := []string{o.ServiceAccount, o.PrimaryDir}
	if !o.SkipCopy {
		dirs = append(dirs, o.BinDir)
	}
	for _, dir := range dirs {
		if err := watcher.Add(dir); err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	following := false
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for installed, configured := false, false; ; {
		// Again if it is gone: nothing else keeps pods from starting on this node for good.
		if !o.SkipCopy && (!installed || !binaryThere(o)) {
			if err := copyBinary(o); err != nil {
				return err
			}
			installed = true
			log.Info("installed binary", "dir", o.BinDir)
		}
		changed, err := credentials(o, getenv)
		if err != nil {
			return fmt.Errorf("credentials: %w", err)
		}
		if changed {
			log.Info("wrote credentials", "dir", o.credentialsDir())
		}
		if o.DaemonSet != "" && !o.Once && !following { // it needs the credentials
			following = true
			all.Go(func() { w.follow(ctx) })
		}
		if !configured || !o.SkipWatch {
			err := configure(o, log)
			switch {
			case errors.Is(err, errNoPrimary):
				log.Warn("no configuration written, waiting for the primary network", "err", err)
			case err != nil:
				return err
			default:
				configured = true
			}
		}
		if o.Once && configured {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-watcher.Events:
			drain(watcher)
		case err := <-watcher.Errors:
			return fmt.Errorf("watch: %w", err)
		}
	}
}

// configure brings the configuration up to date. One that is in force stays
// when the primary network is missing or does not parse.
func configure(o *Options, log *slog.Logger) error {
	if o.ConfFile != "auto" {
		return copyConf(o, log)
	}
	path, primary, err := findPrimary(o.PrimaryDir, o.Primary)
	if err != nil {
		if inForce(o.ConfDir) && errors.Is(err, errNoPrimary) {
			log.Warn("keeping the configuration in force", "err", err)
			return nil
		}
		return err
	}
	name, data := generate(o, primary)
	if err := place(o, name, data, log.With("primary", path)); err != nil {
		return err
	}
	if o.RenamePrimary {
		return os.Rename(path, path+oldSuffix)
	}
	return nil
}

// copyConf installs a finished configuration, if it is one.
func copyConf(o *Options, log *slog.Logger) error {
	data, err := os.ReadFile(o.ConfFile)
	if err != nil {
		return err
	}
	name, plugin := singleName, data
	if filepath.Ext(o.ConfFile) == ".conflist" {
		var list struct{ Plugins []json.RawMessage }
		if err := json.Unmarshal(data, &list); err != nil || len(list.Plugins) == 0 {
			return fmt.Errorf("-multus-conf-file %s: want a list of plugins, multus first: %w", o.ConfFile, cmp.Or(err, errNoPrimary))
		}
		name, plugin = listName, list.Plugins[0]
	}
	if _, err := conf.Parse(plugin); err != nil {
		return fmt.Errorf("-multus-conf-file %s: %w", o.ConfFile, err)
	}
	return place(o, name, data, log)
}

func place(o *Options, name string, data []byte, log *slog.Logger) error {
	changed, err := replace(filepath.Join(o.ConfDir, name), data, 0o600)
	if err != nil {
		return err
	}
	if changed {
		log.Info("wrote configuration", "file", name)
	}
	for _, other := range []string{singleName, listName} {
		if other == name {
			continue
		}
		if err := os.Remove(filepath.Join(o.ConfDir, other)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func inForce(dir string) bool {
	for _, name := range []string{singleName, listName} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
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
