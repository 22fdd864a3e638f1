package daemon

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"usher/internal/api"
	"usher/registry"
)

// poolRange returns the range of load balancers' addresses, or an empty one.
func (d *daemon) poolRange() registry.IPRange {
	if d.pool == nil {
		return registry.IPRange{}
	}
	return registry.NewIPRange(d.Config.Pool)
}

// balance gives addresses to the Services of type LoadBalancer that have none:
// who creates one gets its address at once, unless there was none to be had.
func (d *daemon) balance(ctx context.Context) error {
	select {
	case <-d.store.Synced():
	case <-ctx.Done():
		return nil
	}
	for ctx.Err() == nil {
		snapshot := d.store.Snapshot()
		lacking := make(map[registry.Key]bool)
		for svc := range snapshot.Services("") {
			if d.writer.LacksBalancer(svc) {
				lacking[registry.KeyOf(svc)] = true
			}
		}
		w := d.store.WatchFrom(snapshot)
		for d.balanceAll(ctx, lacking) && d.awaitLack(ctx, w, lacking) {
		}
		select {
		case <-time.After(minRetry):
		case <-ctx.Done():
		}
	}
	return nil
}

// awaitLack waits until there may be an address for somebody who lacks one. It
// returns false when w has expired, and when ctx is done.
func (d *daemon) awaitLack(ctx context.Context, w *registry.Watch, lacking map[registry.Key]bool) bool {
	for {
		commits, err := w.Next(ctx)
		if err != nil {
			return false
		}
		due := false
		for _, c := range commits {
			for _, change := range c.Objects {
				due = d.lack(change, lacking) || due
			}
		}
		if due {
			return true
		}
	}
}

// lack notes what a change says of who lacks an address, and reports whether
// there may be one for somebody.
func (d *daemon) lack(change registry.Change, lacking map[registry.Key]bool) bool {
	switch change.Kind {
	case registry.Services:
		svc, _ := change.New.(*corev1.Service)
		if svc != nil && d.writer.LacksBalancer(svc) {
			lacking[registry.KeyOf(svc)] = true
			return true
		}
		if svc == nil {
			delete(lacking, registry.KeyOf(change.Old))
		}
	case registry.IPAddresses:
		old, _ := change.Old.(*networkingv1.IPAddress)
		return change.New == nil && old != nil && len(lacking) > 0
	}
	return false
}

// balanceAll gives addresses to those who lack one. It returns false when that
// has to be tried again.
func (d *daemon) balanceAll(ctx context.Context, lacking map[registry.Key]bool) bool {
	for key := range lacking {
		err := d.writer.Balance(ctx, key)
		var none *api.NoAddressError
		switch {
		case err == nil:
			delete(lacking, key)
		case errors.As(err, &none):
			if svc := d.store.Snapshot().Get(key); svc != nil {
				d.events.Event(api.Reference(svc), corev1.EventTypeWarning, "SyncLoadBalancerFailed",
					"Error syncing load balancer: failed to ensure load balancer: "+none.Error())
			}
		case ctx.Err() == nil:
			d.Log.Warn("give an address to a load balancer", "service", key, "error", err)
			return false
		}
	}
	return true
}
