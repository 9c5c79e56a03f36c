// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"log/slog"

	"github.com/sriovkit/sriovkit/device-plugin/config"
	"github.com/sriovkit/sriovkit/device-plugin/pool"
)

// Explanation is what would become of each device, and who has it.
type Explanation struct {
	pool.Assignment
	Config config.Config
	Held   map[string]pool.Holder // by device ID
}

// Explain looks at the host as it is, and gives nothing to anybody.
func Explain(ctx context.Context, opts Options, log *slog.Logger) (Explanation, error) {
	cfg, err := LoadConfig(opts.ConfigFile, opts.ResourcePrefix)
	if err != nil {
		return Explanation{}, err
	}
	f, err := openFacts(opts, log)
	if err != nil {
		return Explanation{}, err
	}
	defer f.close()
	devices, err := f.read(ctx, config.NeedsOf(cfg.Pools), causeStart)
	if err != nil {
		log.Warn("some devices cannot be read", "err", err)
	}
	var l ledger
	newHolders(opts, log).ask(ctx, &l)
	held, _ := l.held()
	return Explanation{pool.Assign(devices, cfg.Pools, held), cfg, held}, nil
}
