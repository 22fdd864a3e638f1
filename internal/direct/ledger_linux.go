//go:build amd64 || arm64

package direct

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"usher/internal/sockdiag"
)

const (
	// maxConnections bounds the connections that are remembered. Of those
	// beyond it only the beginning is counted.
	maxConnections = 65536

	// settling is how long a connection that has ended waits for word of the
	// other end, if that is on this machine (see connection.bytes).
	settling = time.Second
)

// A ledger remembers the connections of programs to Backends, and counts them.
// It learns of their ends from the kernel.
type ledger struct {
	byLoad *byLoad // hears of news
	notes  notes

	mu        sync.Mutex // guards the following; notes.mu may be taken after it
	idle      int        // for how long nothing has been open
	entered   []opening  // room for what is noted next
	sockets   map[uint64]*connection
	pairs     map[sockdiag.Pair]*connection // those that have ended and are not settled, too
	unsettled []*connection                 // ended, in that order
	totals    map[countKey]*amounts         // what has not been reported
	closed    []uint64                      // connections that were reported, and have ended
	looks     uint64                        // how often that was
}

// A countKey says what is counted: a Frontend and, if valid, one of its
// Backends.
type countKey struct {
	*frontend
	backend netip.AddrPort
}

// amounts are what has happened since it was last reported.
type amounts struct{ connections, up, down, dialErrors, retries, unserved, resets uint64 }

// A connection is one that a program has made, or begun, to a Backend.
type connection struct {
	opening
	who

	state    sockdiag.State
	rtt      time.Duration
	up, down uint64 // that were counted
	finished bool   // the Backend has sent all

	told   bool             // it was reported as it is now
	known  bool             // it was reported
	cut    bool             // its Backend was removed, and that is why it ends
	seen   uint64           // the last look at which it was there
	missed time.Time        // when it was not, first; zero: it was there
	ended  time.Time        // zero: it has not
	heard  bool             // the kernel has said so
	last   sockdiag.Socket  // what
	peer   *sockdiag.Socket // the other end, when that has ended; nil: nobody knows
}

// newLedger returns one that hears of ends from w, or from nobody.
func newLedger(w *sockdiag.Watcher) *ledger {
	return &ledger{
		notes:   notes{watcher: w, list: make([]opening, 0, maxNoted), names: make(map[uint32]who)},
		entered: make([]opening, 0, maxNoted),
		sockets: make(map[uint64]*connection), pairs: make(map[sockdiag.Pair]*connection), totals: make(map[countKey]*amounts),
	}
}

// note takes down how a connect went that a program asked for, which waits for
// us: whatever can be done later is.
func (l *ledger) note(n *notification, d *dial, errno unix.Errno) {
	if d.pick.frontend == nil {
		return
	}
	o := opening{
		pick: d.pick, started: time.Now(), tid: n.TID, number: int(int32(n.Args[0])), many: d.protocol == unix.IPPROTO_MPTCP,
	}
	if lives := (errno == 0 || errno == unix.EINPROGRESS) && !o.lost(); lives {
		o.answered = d.answered || errno == 0 && d.blocking
		o.look(d.fd)
	} else if len(o.errors) == 0 { // a fault of the program's own
		o.release()
		return
	}
	if o.answered {
		o.succeeded()
	}
	l.loadChanged(o.frontend)
	for !l.notes.add(&o) {
		l.lock()
		l.mu.Unlock()
	}
}

// lock locks mu, after which all that was noted is entered. What the kernel
// says of a connection it says later.
func (l *ledger) lock() {
	l.mu.Lock()
	list := l.notes.take(l.entered)
	for i := range list {
		l.open(&list[i])
	}
	clear(list)
	l.entered = list[:0]
}

// open enters one opening. The caller must hold mu.
func (l *ledger) open(o *opening) {
	l.countDial(o)
	if o.cookie == 0 || l.notes.watcher == nil || len(l.sockets) >= maxConnections {
		o.release()
		return
	}
	c := &connection{opening: *o, who: l.notes.who(o.tid)}
	c.errors = nil
	if c.answered {
		c.state = sockdiag.Established
	}
	if old := l.sockets[c.cookie]; old != nil {
		l.end(old, nil)
	}
	if old := l.pairs[c.Pair]; old != nil {
		l.settle(old)
	}
	l.sockets[c.cookie], l.pairs[c.Pair] = c, c
}

// look reads what tells a socket from others.
func (o *opening) look(fd int) {
	if rawOption(fd, unix.SOL_SOCKET, unix.SO_COOKIE, &o.cookie) {
		o.Pair = sockdiag.Pair{Local: rawLocal(fd), Remote: o.backend()}
	}
}

// of returns the counters of a connection's Frontend, or of a Backend. What
// nobody has taken goes when it is too much.
func (l *ledger) of(f *frontend, backend netip.AddrPort) *amounts {
	key := countKey{f, backend}
	n := l.totals[key]
	if n == nil {
		if len(l.totals) >= maxConnections {
			clear(l.totals)
		}
		n = new(amounts)
		l.totals[key] = n
	}
	return n
}

// both returns the counters of a connection's Frontend and of its Backend.
func (l *ledger) both(c *connection) [2]*amounts {
	return [2]*amounts{l.of(c.frontend, netip.AddrPort{}), l.of(c.frontend, c.backend())}
}

// countDial counts a connect. The caller must hold mu.
func (l *ledger) countDial(o *opening) {
	whole := l.of(o.frontend, netip.AddrPort{})
	whole.connections++
	for _, i := range o.errors {
		whole.dialErrors++
		l.of(o.frontend, o.address(i)).dialErrors++
	}
	for i := 1; i <= o.at; i++ {
		whole.retries++
		l.of(o.frontend, o.address(i)).retries++
	}
	if o.lost() {
		whole.unserved++
	}
	if o.answered {
		l.of(o.frontend, o.backend()).connections++
	}
}

// answers says that the Backend of a connection has answered. The caller must
// hold mu.
func (l *ledger) answers(c *connection) {
	if !c.answered {
		c.answered = true
		c.succeeded()
		l.of(c.frontend, c.backend()).connections++
	}
}

// end takes down the end of a connection, with what the kernel says about it, or
// nil if that was missed. The caller must hold mu.
func (l *ledger) end(c *connection, s *sockdiag.Socket) {
	delete(l.sockets, c.cookie)
	c.ended = time.Now()
	// One that its program has reset has no peer any more. With another it was
	// connected again, to elsewhere.
	if c.heard = s != nil && (s.Remote == c.Remote || s.Remote.Port() == 0); c.heard {
		c.last = *s
	}
	if c.last.Answered() {
		l.answers(c)
	} else if !c.answered && (c.last.Segments > 0 || c.last.Retrans > 0) {
		// It was refused, or nobody answered for longer than the program waited:
		// one that was closed at once says nothing about the Backend.
		c.failed(unix.ECONNREFUSED)
		for _, n := range l.both(c) {
			n.dialErrors++
		}
		l.of(c.frontend, netip.AddrPort{}).unserved++
	}
	c.release()
	l.loadChanged(c.frontend)
	if c.known {
		l.closed = append(l.closed, c.cookie)
	}
	near := c.Remote.Addr() == c.Local.Addr() || c.Remote.Addr().IsLoopback()
	if c.heard && c.answered && near && c.peer == nil && c.last.Unread == 0 {
		l.unsettled = append(l.unsettled, c)
		return
	}
	l.settle(c)
}

// settle counts the bytes of a connection that has ended. The caller must hold
// mu.
func (l *ledger) settle(c *connection) {
	if l.pairs[c.Pair] == c {
		delete(l.pairs, c.Pair)
		up, down := c.bytes()
		l.count(c, up, down)
		if c.heard && c.answered && c.last.Segments == 0 {
			for _, n := range l.both(c) {
				n.resets++
			}
		}
	}
}

// bytes returns how many bytes have gone both ways. The kernel counts a FIN
// that came as one, and does not say whether there was one. So the other end is
// asked, if that is on this machine: it was told of as well. Of a socket that
// its program has reset, the other end alone knows.
func (c *connection) bytes() (up, down uint64) {
	switch {
	case c.last.Segments == 0 && c.peer != nil:
		return c.peer.Received(), c.peer.Given()
	case c.last.Segments == 0:
		return c.up, c.down
	case c.peer != nil:
		return c.last.Sent(), min(c.last.Received(), c.peer.Given())
	}
	down = c.last.Received()
	if down > 0 && (c.last.Unread > 0 || c.finished) {
		down--
	}
	return c.last.Sent(), down
}

// count counts the bytes of a connection, of which there are as many by now.
// The caller must hold mu.
func (l *ledger) count(c *connection, up, down uint64) {
	up, down = max(up, c.up), max(down, c.down)
	if up == c.up && down == c.down {
		return
	}
	for _, n := range l.both(c) {
		n.up += up - c.up
		n.down += down - c.down
	}
	c.up, c.down, c.told = up, down, false
}
