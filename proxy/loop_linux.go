package proxy

import (
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A loop serves its connections and flows from one thread: it waits for the
// kernel to say which sockets are ready, moves what can be moved without
// waiting, and waits again. What it has, no other goroutine touches: others
// leave it a command. It takes no lock while it moves bytes, and starts no
// goroutine and keeps no pipe for a connection that is idle.
type loop struct {
	engine *loops
	index  int // in engine.all
	log    *slog.Logger
	load   atomic.Int64 // its connections, and those that it is given

	epoll int
	wake  int // an eventfd, written to when there are commands

	mu       sync.Mutex // guards the following
	commands []func()
	ended    bool // nobody will run commands any more

	// The following belong to the loop's own goroutine.
	stopping      bool
	now           int64 // ns since the engine's start, as of the last wait
	last          int   // events of the last wait
	yielded       int64 // when the scheduler last had a look
	events        [maxEvents]unix.EpollEvent
	control       unix.EpollEvent
	opts          sockopts
	address       sockaddr
	source        sockaddr
	sourceTurn    int
	pipeEnds      [2]int32
	buf           []byte // what is read and written at once is never kept
	conns         connTable
	listeners     []*acceptor // by the id in their events; nil: free
	freeListeners []int32
	fronts        []*front // by the id in their events; nil: free
	freeFronts    []int32
	flows         flowTable
	incoming      *batch // from clients; made for the first front
	answers       *batch // to the clients of one front, sent together
	answering     *front
	large         [][]byte // datagrams that flows have let go of
	nanswers      int
	gather        gather
	again         []connSide // sides that had their turn and are not done
	turn          []connSide // the former again, while it is worked on
	dialing       dialQueue
	hedging       []connRef // whose backend has not answered for a while
	draining      []connRef // to be reset once their peer has taken everything
	resting       []*acceptor
	rested        int64 // when they have rested
	swept         int64
	remainders    *remainder
	nremainders   int
	pipes         *kernelPipe
	npipes        int
}

const (
	maxEvents = 256

	// bufferSize is what one call reads of a connection that moves little.
	bufferSize = 64 << 10

	// busyEvents of one wait say that more are likely to be there already.
	busyEvents = 4

	// A thread that never enters Go's scheduler makes that look at it every
	// 20 µs. Once in a while is enough to stop that.
	yieldEvery = 7 * time.Millisecond

	// tickEvery is how often connections are looked at that are being dialled
	// for long, or drained.
	tickEvery = 5 * time.Millisecond
)

// What an event is about is in its data: in Fd the id of a connection, a
// listener or a flow, in Pad what of it, and for connections its generation.
// An event that was waiting when its connection ended has an old generation.
const (
	roleClient   = 0 // and 1 to maxAttempt: the connection to a backend, by its attempt
	maxAttempt   = 250
	roleFront    = 251
	roleFlow     = 252
	roleWake     = 253
	roleAcceptor = 254
	roleMask     = 0xff
	genShift     = 8
)

func newLoop(e *loops, index int) (*loop, error) {
	l := &loop{engine: e, index: index, log: e.log, buf: make([]byte, bufferSize)}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("open epoll: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(l.epoll)
		return nil, fmt.Errorf("open eventfd: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Pad: roleWake}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.wake, &ev); err != nil {
		l.closeDescriptors()
		return nil, fmt.Errorf("watch eventfd: %w", err)
	}
	return l, nil
}

func (l *loop) closeDescriptors() {
	unix.Close(l.epoll)
	unix.Close(l.wake)
}

// do runs f on the loop's goroutine and waits for it. It reports false when
// the loop has ended.
func (l *loop) do(f func()) bool {
	done := make(chan struct{})
	if !l.post(func() {
		defer close(done)
		f()
	}) {
		return false
	}
	<-done
	return true
}

// post leaves a command for the loop. It reports false when the loop has ended.
func (l *loop) post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.commands = append(l.commands, f)
	if len(l.commands) == 1 {
		one := [8]byte{0: 1, 7: 1}
		unix.Write(l.wake, one[:])
	}
	return true
}

// run is the loop. It returns after the command that sets stopping.
func (l *loop) run() {
	for !l.stopping {
		n := l.wait()
		l.now = l.engine.clock()
		for i := range n {
			l.dispatch(&l.events[i])
		}
		l.sendAnswers()
		l.takeTurns()
		l.tick()
	}
	l.abortAll()
	l.mu.Lock()
	commands := l.commands
	l.ended = true
	l.mu.Unlock()
	for _, f := range commands {
		f()
	}
	l.closeDescriptors()
}

// wait returns how many events there are. Where there were several the last
// time it looks without waiting first, and lets another thread have the core
// once: that is cheaper than to sleep and be woken.
func (l *loop) wait() int {
	if now := l.engine.clock(); now-l.yielded > int64(yieldEvery) {
		l.yielded = now
		runtime.Gosched()
	}
	timeout := l.timeout()
	n := 0
	if l.last >= busyEvents || timeout == 0 {
		n = l.poll()
		if n == 0 && timeout != 0 {
			rawCall(unix.SYS_SCHED_YIELD, 0, 0, 0, 0, 0, 0)
			n = l.poll()
		}
	}
	if n == 0 && timeout != 0 {
		n = l.sleep(timeout)
	}
	l.last = n
	return n
}

// poll asks for events without waiting.
func (l *loop) poll() int {
	n, errno := rawCall(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events[0])), maxEvents, 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return n
}

// sleep waits for events, at most timeout ms, or for ever when that is -1.
func (l *loop) sleep(timeout int) int {
	n, _, errno := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events[0])), maxEvents, uintptr(timeout), 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// timeout returns for how many ms to wait, or -1 when nothing is due.
func (l *loop) timeout() int {
	if len(l.again) > 0 {
		return 0
	}
	due := int64(-1)
	sooner := func(at int64) {
		if due < 0 || at < due {
			due = at
		}
	}
	if len(l.hedging) > 0 || len(l.draining) > 0 {
		sooner(l.now + int64(tickEvery))
	}
	if d, ok := l.firstDialing(); ok {
		sooner(d.due)
	}
	if len(l.resting) > 0 {
		sooner(l.rested)
	}
	if l.conns.used+l.flows.used > 0 {
		sooner(l.swept + int64(l.engine.sweepEvery))
	}
	if due < 0 {
		return -1
	}
	ms := (due - l.engine.clock() + int64(time.Millisecond) - 1) / int64(time.Millisecond)
	return int(max(ms, 0))
}

// dispatch acts on one event.
func (l *loop) dispatch(ev *unix.EpollEvent) {
	role := int(ev.Pad) & roleMask
	switch role {
	case roleWake:
		l.runCommands()
	case roleAcceptor:
		if a := l.listeners[ev.Fd]; a != nil {
			l.accept(a)
		}
	case roleFront:
		if fr := l.fronts[ev.Fd]; fr != nil {
			l.receive(fr)
		}
	case roleFlow:
		if f := l.flows.at(ev.Fd); f.generation == uint32(ev.Pad)>>genShift {
			l.flowEvent(f, ev.Events)
		}
	default:
		c := l.conns.at(ev.Fd)
		if c.generation == uint32(ev.Pad)>>genShift {
			l.connEvent(c, role, ev.Events)
		}
	}
}

func (l *loop) runCommands() {
	var count [8]byte
	unix.Read(l.wake, count[:])
	l.mu.Lock()
	commands := l.commands
	l.commands = nil
	l.mu.Unlock()
	for _, f := range commands {
		f()
	}
}

// takeTurns goes on with the sides that had moved enough for one turn.
func (l *loop) takeTurns() {
	l.turn, l.again = l.again, l.turn[:0]
	for _, t := range l.turn {
		if c := l.conns.get(t.connRef); c != nil {
			s := c.side(t.backend)
			s.queued = false
			l.pump(c, s)
		}
	}
}

// tick does what is due by the clock.
func (l *loop) tick() {
	l.checkDialing()
	l.checkHedging()
	l.checkDraining()
	l.checkResting()
	if l.conns.used+l.flows.used > 0 && l.now-l.swept >= int64(l.engine.sweepEvery) {
		l.swept = l.now
		l.sweep()
		l.sweepFlows()
		l.relieve()
	}
}

// watch registers a socket of a connection. Only what changes is told
// (edge-triggered), so a connection that is ready and not attended to costs
// nothing.
func (l *loop) watch(op int, fd int32, c *conn, role int, events uint32) syscall.Errno {
	return l.watchSocket(op, fd, events|unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLET, c.id, int32(c.generation<<genShift)|int32(role))
}

// watchSocket has the kernel tell of events of a socket, with what they are
// about.
func (l *loop) watchSocket(op int, fd int32, events uint32, id, pad int32) syscall.Errno {
	l.control = unix.EpollEvent{Events: events, Fd: id, Pad: pad}
	_, errno := rawCall(unix.SYS_EPOLL_CTL, uintptr(l.epoll), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&l.control)), 0, 0)
	return errno
}
