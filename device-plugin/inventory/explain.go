// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"log/slog"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
)

// Explain tells what would become of each device: one line a device, and one
// for each pool that did not take it.
func Explain(ctx context.Context, opts Options, log *slog.Logger) (pool.Assignment, config.Config, error) {
	cfg, err := LoadConfig(opts.ConfigFile, opts.ResourcePrefix)
	if err != nil {
		return pool.Assignment{}, cfg, err
	}
	f, err := openFacts(opts, log)
	if err != nil {
		return pool.Assignment{}, cfg, err
	}
	defer f.close()
	devices, err := f.read(ctx, pool.NeedsOf(cfg.Pools), causeStart)
	if err != nil {
		log.Warn("some devices cannot be read", "err", err)
	}
	var l ledger
	newHolders(opts, log).ask(ctx, &l)
	held, _ := l.held()
	return pool.Assign(devices, cfg.Pools, held), cfg, nil
}
