package daemon

import (
	"context"
	"runtime/debug"
)

// readingGC is the garbage collector's percentage (GOGC) while the registry is
// read. Reading makes several times the garbage of what is kept; the more of it
// lies between what is kept, the more memory stays half empty for good.
const readingGC = 25

// returnMemory keeps the memory together while the registry is read at the
// start, and then gives back to the system what that took beyond what is kept of
// it: the runtime would hold on to it for minutes.
func (d *daemon) returnMemory(ctx context.Context) error {
	usual := debug.SetGCPercent(readingGC)
	if usual < readingGC { // the user wants it so, or none at all
		debug.SetGCPercent(usual)
	}
	defer debug.SetGCPercent(usual)
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
