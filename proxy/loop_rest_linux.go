package proxy

import (
	"slices"
	"time"
)

// restTime is how long a listener is let alone from which connections can be
// accepted to be reset alone, or not even that: others have every descriptor,
// and the kernel would tell of the same client again at once. So is one that
// the kernel cannot watch.
const restTime = 10 * time.Millisecond

// rest stops accepting for a while.
func (l *loop) rest(a *acceptor) {
	l.removeAcceptor(a)
	if len(l.resting) == 0 {
		l.rested = l.now + int64(restTime)
	}
	l.resting = append(l.resting, a)
}

// forget takes a out of those that rest.
func (l *loop) forget(a *acceptor) {
	l.resting = slices.DeleteFunc(l.resting, func(b *acceptor) bool { return a == b })
}

// checkResting begins to accept again when the rest is over.
func (l *loop) checkResting() {
	if len(l.resting) == 0 || l.now < l.rested {
		return
	}
	l.engine.spare.reopen()
	rested := l.resting
	l.resting = nil // addAcceptor may let some rest again
	for _, a := range rested {
		l.addAcceptor(a)
	}
}
