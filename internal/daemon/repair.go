package daemon

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"usher/internal/api"
	"usher/registry"
)

// repairEvery is how often the claims are looked at: what a pass mends comes
// from outside, and that is rare.
const repairEvery = 3 * time.Minute

// repair looks at the claims of addresses and ports once the registry has been
// read, and then again and again.
func (d *daemon) repair(ctx context.Context) error {
	select {
	case <-d.store.Synced():
	case <-ctx.Done():
		return nil
	}
	ticker := time.NewTicker(repairEvery)
	defer ticker.Stop()
	for {
		err := d.writer.Repair(ctx, func(about registry.Object, reason, message string) {
			d.Log.Warn("repair", "object", registry.KeyOf(about), "reason", reason, "message", message)
			d.events.Event(api.Reference(about), corev1.EventTypeWarning, reason, message)
		})
		if err != nil && ctx.Err() == nil {
			d.Log.Warn("repair claims", "error", err)
		}
		if err := d.sweepLogs(); err != nil {
			d.Log.Warn("remove the logs of Pods that are gone", "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
