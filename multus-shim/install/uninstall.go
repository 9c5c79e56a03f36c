package install

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sriovkit/sriovkit/multus-shim/kube"
)

// askTime bounds the question whether the DaemonSet was deleted; a pod has 30 s
// to end, by default.
const askTime = 5 * time.Second

// deleted tells whether the DaemonSet was deleted, so that nobody comes after
// us. The API server answers that it is not there, or going, or refuses to
// answer: credentials and permission to ask are deleted together with it. A
// refusal tells nothing if there never was a permission, and where nobody
// answers nothing is known: then everything stays, for pods start with it in
// any case.
func deleted(ctx context.Context, o *Options, mayAsk bool, log *slog.Logger) bool {
	going, err := daemonSetGoing(ctx, o)
	switch {
	case errors.Is(err, kube.ErrNotFound), errors.Is(err, kube.ErrRefused) && mayAsk:
		return true
	case err != nil:
		log.Warn("not uninstalling: it is unknown whether the DaemonSet was deleted", "err", err)
	}
	return going
}

// daemonSetGoing asks the API server, with the credentials that were installed.
func daemonSetGoing(ctx context.Context, o *Options) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	credentials, err := kube.Load(filepath.Join(o.credentialsDir(), filepath.Base(o.HostKubeconfig)))
	if err != nil {
		return false, err
	}
	c := kube.New(credentials)
	defer c.Close()
	namespace, name, _ := strings.Cut(o.DaemonSet, "/") // validated with the options
	return c.DaemonSetGoing(ctx, namespace, name)
}

// cleanup removes what makes the runtime use multus. The primary network comes
// first if it was renamed, so that the runtime always has one.
func cleanup(o *Options) error {
	var errs []error
	if o.RenamePrimary {
		errs = append(errs, renameBack(o))
	}
	for _, name := range []string{listName, singleName} {
		if err := os.Remove(filepath.Join(o.ConfDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, os.RemoveAll(o.credentialsDir()))...)
}

// renameBack gives the primary network's file the name that the runtime knows,
// unless another network is there by now.
func renameBack(o *Options) error {
	if _, _, err := findPrimary(o.PrimaryDir, o.Primary); !errors.Is(err, errNoPrimary) {
		return err
	}
	entries, err := os.ReadDir(o.PrimaryDir)
	if err != nil {
		return err
	}
	patterns := o.Primary
	if len(patterns) == 0 {
		patterns = []string{"*"}
	}
	for _, pattern := range patterns {
		i := slices.IndexFunc(entries, func(e fs.DirEntry) bool {
			name, renamed := strings.CutSuffix(e.Name(), oldSuffix)
			matches, _ := filepath.Match(pattern, name)
			return renamed && matches && isConf(name)
		})
		if i >= 0 {
			path := filepath.Join(o.PrimaryDir, entries[i].Name())
			return os.Rename(path, strings.TrimSuffix(path, oldSuffix))
		}
	}
	return nil
}
