package daemon

import (
	"context"
	"runtime/debug"
)

// returnMemory gives back to the system what reading the registry at the start
// took beyond what is kept of it: the runtime would hold on to it for minutes.
func (d *daemon) returnMemory(ctx context.Context) error {
	for _, synced := range []<-chan struct{}{d.store.Synced(), d.proxy.Synced()} {
		select {
		case <-synced:
		case <-ctx.Done():
			return nil
		}
	}
	debug.FreeOSMemory()
	return nil
}
