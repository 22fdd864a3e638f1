//go:build amd64 || arm64

package direct

import "time"

// loadEvery is how long a connection may be open, or have ended, until the
// daemon hears of it where somebody may choose by that.
const loadEvery = 50 * time.Millisecond

// loadChanged says that a connection to a Backend has begun or ended.
func (l *ledger) loadChanged(f *frontend) {
	if f.now.Load().Policy.ByLoad() {
		l.byLoad.hurry()
	}
}
