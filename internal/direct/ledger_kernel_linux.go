//go:build amd64 || arm64

package direct

import (
	"time"

	"usher/internal/sockdiag"
)

// What the kernel says about sockets comes to a ledger in two ways: of each that
// ends, when it ends, and of all that there are, when it is asked.

// onItsWay is how long word of the end of a socket may take that is no longer
// there: the kernel has a worker for it, which on a busy machine has to wait.
const onItsWay = time.Second

// socketEnded takes down what the kernel says of a socket that has ended, of
// whomever.
func (l *ledger) socketEnded(s *sockdiag.Socket) {
	l.lock()
	defer l.mu.Unlock()
	if c := l.sockets[s.Cookie]; c != nil && !c.many {
		l.end(c, s)
	} else if c := l.pairs[s.Pair]; c != nil && c.many && c.ended.IsZero() {
		l.end(c, s)
	} else if c := l.pairs[s.Reversed()]; c != nil {
		if s.Segments > 0 { // otherwise it was reset by its own program
			peer := *s
			c.peer = &peer
		}
		if !c.ended.IsZero() {
			l.settle(c)
		}
	}
}

// few is how many connections the kernel is asked for one by one. Beyond it all
// sockets of the machine are looked at.
const few = 256

// refresh asks the kernel about all that are open. One that has not been there
// for a while has ended without a word.
func (l *ledger) refresh() error {
	look, pairs := l.startLook()
	began := time.Now()
	seen := func(s *sockdiag.Socket) { l.socketSeen(s, look) }
	all := len(pairs) > few
	if !all {
		if err := sockdiag.Find(pairs, seen); err != nil {
			return err
		}
		all = l.missesOne(look, began) // that may be bound to a device, or elsewhere
	}
	if all {
		if err := sockdiag.Dump(seen); err != nil {
			return err
		}
	}
	l.lock()
	defer l.mu.Unlock()
	for _, c := range l.sockets {
		switch {
		case c.seen >= look || c.started.After(began):
			c.missed = time.Time{}
		case c.missed.IsZero():
			c.missed = began
		case began.Sub(c.missed) > onItsWay:
			l.end(c, nil)
		}
	}
	return nil
}

// startLook begins a look for what it returns: the ends of those that are open,
// and the other ends of those that are not settled.
func (l *ledger) startLook() (look uint64, pairs []sockdiag.Pair) {
	l.lock()
	defer l.mu.Unlock()
	l.looks++
	for p, c := range l.pairs {
		if c.ended.IsZero() {
			pairs = append(pairs, p)
		} else {
			pairs = append(pairs, p.Reversed())
		}
	}
	return l.looks, pairs
}

// missesOne reports whether one that is open has not been there for so long that
// it must have ended.
func (l *ledger) missesOne(look uint64, now time.Time) bool {
	l.lock()
	defer l.mu.Unlock()
	for _, c := range l.sockets {
		if c.seen < look && !c.missed.IsZero() && now.Sub(c.missed) > onItsWay {
			return true
		}
	}
	return false
}

// socketSeen takes down what the kernel says of a socket that there is.
func (l *ledger) socketSeen(s *sockdiag.Socket, look uint64) {
	l.lock()
	defer l.mu.Unlock()
	if c := l.pairs[s.Reversed()]; c != nil && !c.ended.IsZero() {
		c.seen = look // the other end is there yet
	}
	c := l.sockets[s.Cookie]
	if c == nil || c.many {
		if c = l.pairs[s.Pair]; c == nil || !c.many || !c.ended.IsZero() {
			return
		}
	}
	c.seen = look
	if s.Remote != c.Remote { // connected elsewhere since
		l.end(c, nil)
		return
	}
	if s.Answered() {
		l.answers(c)
	}
	if c.state != s.State {
		c.state, c.told = s.State, false
	}
	if s.Counted {
		c.rtt = s.RTT
		down := s.Received()
		if c.finished = s.State.PeerEnded(); c.finished && down > 0 {
			down--
		}
		l.count(c, s.Sent(), down)
	}
}

// settleOld counts those that have waited for long enough, or all.
func (l *ledger) settleOld(all bool) {
	l.lock()
	defer l.mu.Unlock()
	for len(l.unsettled) > 0 && (all || len(l.unsettled) > maxConnections || time.Since(l.unsettled[0].ended) > settling) {
		l.settle(l.unsettled[0])
		l.unsettled = l.unsettled[1:]
	}
}

// rest is called every second. It has the kernel say no more when nothing has
// been open for a while: it does not do that for nothing.
func (l *ledger) rest() {
	const enough = 3
	l.lock()
	defer l.mu.Unlock()
	if l.idle++; len(l.pairs) > 0 {
		l.idle = 0
	}
	if l.idle > enough {
		l.notes.leave()
	}
}

// watch takes down the ends of connections until the Watcher is closed.
func (l *ledger) watch() {
	for {
		lost, err := l.notes.watcher.Next(l.socketEnded)
		if err != nil {
			return
		}
		if lost {
			_ = l.refresh() // what is missing then is looked for again
		}
		// Many at once cost little more than one: who is woken for each takes
		// the processor from those who connect.
		time.Sleep(5 * time.Millisecond)
	}
}
