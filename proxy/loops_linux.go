package proxy

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// loops is the engine of event loops, one for each core.
type loops struct {
	limits      Limits
	own         *addressSet
	transparent bool // see engineOptions
	log         *slog.Logger
	all         []*loop
	fronts      atomic.Int32 // how many there have been
	sweepEvery  time.Duration
	started     time.Time
	budget      *budget
	pipes       atomic.Int32 // how many there are
	spare       spare
	scarce      episode // of connections that this host has no means for
	unwatched   episode // of listeners that the kernel cannot watch
}

// cores is how many there are for this process. run makes more threads than
// that.
var cores = runtime.GOMAXPROCS(0)

// newLoops returns the engine, or an error where the system does not have what
// it needs.
func newLoops(o engineOptions) (*loops, error) {
	l := o.Limits
	e := &loops{
		limits: l, own: o.own, transparent: o.transparent, log: o.log, started: time.Now(), budget: newBudget(l.MaxDescriptors),
		// Several times within the shortest limit, and no more often than needed.
		sweepEvery: min(max(min(l.Idle, l.HalfIdle, l.FlowIdle, l.FlowUnanswered)/8, 10*time.Millisecond), time.Second),
	}
	e.spare.open()
	for i := range cores {
		one, err := newLoop(e, i)
		if err != nil {
			e.closeAll()
			return nil, err
		}
		e.all = append(e.all, one)
	}
	return e, nil
}

func (e *loops) closeAll() {
	for _, l := range e.all {
		l.closeDescriptors()
	}
	e.spare.close()
}

// shards implements engine: a loop counts for itself.
func (e *loops) shards() int { return len(e.all) }

// tidy implements engine. What a loop counts is its own.
func (e *loops) tidy(f *frontend) {
	for i, l := range e.all {
		if t := &f.parts[i]; t.stale() {
			l.post(t.tidy)
		}
	}
}

// clock implements engine: it is the time since the engine was made.
func (e *loops) clock() int64 { return int64(time.Since(e.started)) }

// listen implements engine.
func (e *loops) listen(f *frontend, at ListenAddr) (listener, error) {
	if f.now.Load().Protocol == corev1.ProtocolUDP {
		return e.listenUDP(f, at)
	}
	return e.listenTCP(f, at)
}

// run implements engine.
func (e *loops) run(ctx context.Context) error {
	// A loop that waits in the kernel leaves its place to other goroutines, and
	// has to get one back at once when it returns.
	runtime.GOMAXPROCS(len(e.all) + 2)
	var running sync.WaitGroup
	for _, l := range e.all {
		running.Go(l.run)
	}
	<-ctx.Done()
	for _, l := range e.all {
		l.post(func() { l.stopping = true })
	}
	running.Wait()
	e.spare.close()
	return nil
}

// nextFront returns the loop for another UDP socket: each in its turn.
func (e *loops) nextFront() int { return int(uint32(e.fronts.Add(1)) % uint32(len(e.all))) }

// noteLoop says once that a Backend is an address of our own.
func (e *loops) noteLoop(f *frontend, b *registry.Backend) {
	if f.loops.begins() {
		e.log.Warn("refused to dial a backend", "backend", b.Address, "error", errLoop)
	}
}

// noteLocal says once that this host has not the means for all connections.
func (e *loops) noteLocal(errno syscall.Errno) {
	if e.scarce.begins() {
		e.log.Warn("connections are reset: this host lacks what they need", "error", errno)
	}
}

// shed accepts one connection with the descriptor that is kept for that, and
// resets it: otherwise it would wait, and the loop would be told of it again
// and again. There may be more when it returns 0.
func (e *loops) shed(a *acceptor, errno syscall.Errno) syscall.Errno {
	e.noteLocal(errno)
	e.spare.mu.Lock()
	defer e.spare.mu.Unlock()
	e.spare.closeLocked()
	fd, errno := rawAccept(a.fd)
	if errno == 0 {
		a.tally.connections.Add(1)
		a.tally.unserved.Add(1)
		unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		rawClose(fd)
	}
	e.spare.openLocked()
	return errno
}

// maxPipes bounds the pipes of all loops: an ordinary user has 64 MiB of them.
const maxPipes = 32

// perPipe is how many descriptors a pipe takes.
const perPipe = 2

// takePipe reports whether there may be one more pipe.
func (e *loops) takePipe() bool {
	if e.pipes.Add(1) <= maxPipes && e.budget.take(perPipe) {
		return true
	}
	e.pipes.Add(-1)
	return false
}

func (e *loops) releasePipe() {
	e.pipes.Add(-1)
	e.budget.add(-perPipe)
}

// A spare is a descriptor that is there to be given up.
type spare struct {
	mu sync.Mutex
	fd int
}

func (s *spare) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.openLocked()
}

// reopen opens it where somebody else was faster to take its place.
func (s *spare) reopen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		s.openLocked()
	}
}

func (s *spare) openLocked() {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		fd = -1
	}
	s.fd = fd
}

func (s *spare) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked()
}

func (s *spare) closeLocked() {
	if s.fd >= 0 {
		unix.Close(s.fd)
	}
	s.fd = -1
}

// chooseEngine returns what makes the engine of that name. The portable one
// takes the place of event loops that cannot be had.
func chooseEngine(name string) func(engineOptions) engine {
	return func(o engineOptions) engine {
		if name == "portable" {
			return newPortable(o)
		}
		e, err := newLoops(o)
		if err == nil {
			return e
		}
		o.log.Warn("event loops are not available; the portable engine takes their place", "error", err)
		return newPortable(o)
	}
}
