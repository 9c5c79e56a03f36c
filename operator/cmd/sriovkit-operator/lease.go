// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
)

// leaseName in the operator's namespace. Its holder works, other replicas stand by.
const leaseName = "sriovkit-operator"

// errLostText is how a manager ends that has lost its lease; controller-runtime has no
// error value for it.
const errLostText = "leader election lost"

// lease says how long a replica may work without having been able to renew its lease, and
// when another one takes over.
type lease struct {
	elect                  bool
	duration, renew, retry time.Duration
}

// flags adds the flags of a lease, under the names that Kubernetes' own components use. The
// defaults outlast an API server that does not answer for 20 s, where Kubernetes' own (15 s,
// 10 s, 2 s) have the operator start again after 10, and read everything anew from an API
// server that is too busy already. In return a replica that crashes is replaced
// after 45 s instead of 15; nothing on the nodes depends on that.
func (l *lease) flags(flags *flag.FlagSet) {
	flags.BoolVar(&l.elect, "leader-elect", true, "work only while holding the lease, so that replicas can stand by")
	flags.DurationVar(&l.duration, "leader-elect-lease-duration", 45*time.Second, "after how long without renewal another replica takes over")
	flags.DurationVar(&l.renew, "leader-elect-renew-deadline", 20*time.Second, "how long renewing may fail until the holder ends")
	flags.DurationVar(&l.retry, "leader-elect-retry-period", 4*time.Second, "time between tries to get or to renew the lease")
}

// check refuses times by which two replicas could work at once, and drain more nodes than
// their pools allow. A holder that cannot renew fails for renew, begun up to retry after the
// last success; then it tries to give the lease up, for renew again, and works until then
// (client-go, tools/leaderelection: renew, release).
func (l *lease) check() error {
	switch {
	case l.retry <= 0:
		return fmt.Errorf("-leader-elect-retry-period %s: want more than 0", l.retry)
	case l.renew < 2*l.retry:
		return fmt.Errorf("-leader-elect-renew-deadline %s: want at least twice -leader-elect-retry-period, %s", l.renew, 2*l.retry)
	case l.duration <= l.retry+2*l.renew:
		return fmt.Errorf("-leader-elect-lease-duration %s: want more than -leader-elect-retry-period and twice -leader-elect-renew-deadline, %s: "+
			"before that the holder may still work", l.duration, l.retry+2*l.renew)
	}
	return nil
}

// use has a manager work by the lease.
func (l *lease) use(opts *ctrl.Options, namespace string) {
	opts.LeaderElection, opts.LeaderElectionID, opts.LeaderElectionNamespace = l.elect, leaseName, namespace
	opts.LeaseDuration, opts.RenewDeadline, opts.RetryPeriod = &l.duration, &l.renew, &l.retry
	opts.LeaderElectionReleaseOnCancel = true
}

// work runs the manager until ctx ends or the lease is lost. After that this replica must not
// act: another one counts the nodes being drained, and allows more by that count.
func (l *lease) work(ctx context.Context, mgr ctrl.Manager) error {
	err := mgr.Start(ctx)
	if err != nil && err.Error() == errLostText {
		return fmt.Errorf("%w: lease %s could not be renewed for %s, because the API server did not answer in time or another replica holds it; "+
			"this one ends, to start again and stand by", err, leaseName, l.renew)
	}
	return err
}
