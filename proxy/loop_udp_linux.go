package proxy

import (
	"fmt"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"usher/registry"
)

// A front is the socket of a UDP Frontend at one address, with its flows. It
// belongs to one loop. It is closed while the Frontend has no Backends: the
// kernel refuses the datagrams then.
type front struct {
	loop     *loop
	frontend *frontend
	tally    *tally
	at       ListenAddr
	fd       int32
	id       int32 // in loop.fronts

	lastBatch int // datagrams of the last receive
	calls     int

	flows     map[clientKey]*loopFlow
	byBackend map[netip.AddrPort]*flowList
	byAge     [stages]flowList // the longest idle first
}

// socketBuffer is asked for both ways: a burst waits there.
const socketBuffer = 4 << 20

func (e *loops) listenUDP(f *frontend, at ListenAddr) (listener, error) {
	fd, err := openFront(at)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", at.AddrPort, err)
	}
	e.budget.add(1)
	n := e.nextFront()
	fr := &front{
		loop: e.all[n], frontend: f, tally: &f.parts[n], at: at, fd: int32(fd), id: -1,
		flows: make(map[clientKey]*loopFlow), byBackend: make(map[netip.AddrPort]*flowList),
	}
	for stage := range fr.byAge {
		fr.byAge[stage].link = byAge
	}
	errno := syscall.ECANCELED // the loop has ended
	fr.loop.do(func() { errno = fr.loop.addFront(fr) })
	if errno != 0 {
		unix.Close(fd)
		e.budget.add(-1)
		return nil, fmt.Errorf("watch %s: %w", at.AddrPort, errno)
	}
	return fr, nil
}

func openFront(at ListenAddr) (fd int, err error) {
	return at.bind(unix.SOCK_DGRAM, func(fd int) error {
		// These make it better and are not needed.
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer)
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer)
		unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1)
		return nil
	})
}

// addFront begins to receive.
func (l *loop) addFront(fr *front) syscall.Errno {
	if l.incoming == nil {
		l.incoming, l.answers = newBatch(), newBatch()
	}
	if n := len(l.freeFronts); n > 0 {
		fr.id = l.freeFronts[n-1]
		l.freeFronts = l.freeFronts[:n-1]
		l.fronts[fr.id] = fr
	} else {
		fr.id = int32(len(l.fronts))
		l.fronts = append(l.fronts, fr)
	}
	errno := l.watchSocket(unix.EPOLL_CTL_ADD, fr.fd, unix.EPOLLIN, fr.id, roleFront)
	if errno != 0 {
		l.removeFront(fr)
	}
	return errno
}

func (l *loop) removeFront(fr *front) {
	l.fronts[fr.id] = nil
	l.freeFronts = append(l.freeFronts, fr.id)
}

// update implements listener: the flows of a Backend that no longer serves end
// at once, so that the client's next datagram goes to one that does. Those of
// a Backend that terminates and still serves go on.
func (fr *front) update(f *registry.Frontend) error {
	fr.loop.do(func() {
		for address, list := range fr.byBackend {
			if f.Serving(address) != nil {
				continue
			}
			for list.first != nil {
				fr.loop.endFlow(list.first)
			}
		}
	})
	return nil
}

// close implements listener.
func (fr *front) close() {
	l := fr.loop
	if !l.do(func() {
		l.endFlows(fr)
		l.sendAnswers()
		l.removeFront(fr)
	}) {
		l.endFlows(fr) // the loop has ended
	}
	unix.Close(int(fr.fd))
	l.engine.budget.add(-1)
}

func (l *loop) endFlows(fr *front) {
	for stage := range fr.byAge {
		for fr.byAge[stage].first != nil {
			l.endFlow(fr.byAge[stage].first)
		}
	}
}

// backendFlows returns the list of the flows of a Backend.
func (fr *front) backendFlows(b netip.AddrPort) *flowList {
	list := fr.byBackend[b]
	if list == nil {
		list = &flowList{link: byBackend}
		fr.byBackend[b] = list
	}
	return list
}

// watchFlow registers the socket of a flow.
func (l *loop) watchFlow(fd int32, f *loopFlow) syscall.Errno {
	return l.watchSocket(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN, f.id, int32(f.generation<<genShift)|roleFlow)
}

// receive passes on what clients have sent. As long as datagrams come one by one
// it asks for one, and now and then whether there are more.
func (l *loop) receive(fr *front) {
	fr.calls++
	n, errno := l.incoming.receive(fr.fd, fr.lastBatch > 1 || fr.calls%8 == 0)
	if errno != 0 {
		fr.lastBatch = 0
		return
	}
	fr.lastBatch = n
	for i := 0; i < n; {
		i = l.forward(fr, i, n)
	}
}

// forward sends the datagram at place i of the incoming batch to the Backend of
// its flow, together with those after it that are alike. It returns the place
// after them.
func (l *loop) forward(fr *front, i, end int) int {
	client := &sockaddr{} // on the stack: the kernel does not see it
	key := l.incoming.sender(i, client)
	f := fr.flows[key]
	if f == nil {
		if f = l.openFlow(fr, key, client); f == nil {
			fr.tally.dropped.Add(1)
			l.incoming.reset(i)
			return i + 1
		}
	}
	l.heardClient(f)
	size, count := l.incoming.joined(i), 1
	if size == 0 {
		size, count = l.alike(key, i, end)
	}
	total := 0
	for k := range count {
		datagram := l.incoming.datagram(i + k)
		l.gather.vectors[k] = unix.Iovec{Base: unsafe.SliceData(datagram), Len: uint64(len(datagram))}
		total += len(datagram)
	}
	l.remember(f, i+count-1, size)
	l.sendToBackend(f, count, size, total)
	for k := range count {
		l.incoming.reset(i + k)
	}
	return i + count
}

// alike returns the size of the datagram at place i, and how many from there on
// are the same client's and of that size; the last may be shorter.
func (l *loop) alike(key clientKey, i, end int) (size, count int) {
	size = int(l.incoming.messages[i].length)
	total := size
	for count = 1; size > 0 && i+count < end && count < maxSegments; count++ {
		k := i + count
		n := int(l.incoming.messages[k].length)
		var client sockaddr
		if n == 0 || n > size || total+n > maxSegmented || l.incoming.joined(k) > 0 || l.incoming.sender(k, &client) != key {
			break
		}
		total += n
		if n < size {
			return size, count + 1
		}
	}
	return size, count
}

// remember keeps the last datagram of a flow, in case that its Backend refuses
// it.
func (l *loop) remember(f *loopFlow, i, size int) {
	datagram := l.incoming.datagram(i)
	if size > 0 && len(datagram) > size { // joined: only the last of them
		datagram = datagram[(len(datagram)-1)/size*size:]
	}
	if n := len(l.large); cap(f.last) < len(datagram) && len(datagram) > keptDatagram && n > 0 {
		f.last, l.large = l.large[n-1], l.large[:n-1]
	}
	if f.last == nil || cap(f.last) < len(datagram) {
		f.last = make([]byte, 0, len(datagram)) // not nil, even for an empty one
	}
	f.last = append(f.last[:0], datagram...)
}

// maxLarge is how many large datagrams of flows are kept for others: flows that
// talk at once make no new ones.
const maxLarge = 16

// letGo takes its last datagram from a flow that need not send it again, if that
// is more than what a flow may keep for long.
func (l *loop) letGo(f *loopFlow) {
	if cap(f.last) <= keptDatagram {
		return
	}
	if len(l.large) < maxLarge {
		l.large = append(l.large, f.last[:0])
	}
	f.last = nil
}

// sendToBackend sends the first count vectors, datagrams of size bytes and total
// bytes in all.
func (l *loop) sendToBackend(f *loopFlow, count, size, total int) {
	var errno syscall.Errno
	if count == 1 && total <= size {
		v := &l.gather.vectors[0]
		_, errno = rawSend(f.fd, unsafe.Slice(v.Base, v.Len))
	} else if errno = l.gather.send(f.fd, count, size); errno == unix.EINVAL || errno == unix.EIO || errno == unix.EMSGSIZE {
		errno = l.sendOneByOne(f, count, size) // this way out does not cut datagrams
	}
	switch errno {
	case 0:
		f.up += uint64(total)
		f.counters.bytesUp.Add(uint64(total))
	case unix.ECONNREFUSED:
		// The error is that of an earlier datagram. The last one was not sent.
		l.flowRefused(f, errno)
	default:
		f.counters.dropped.Add(1)
	}
}

func (l *loop) sendOneByOne(f *loopFlow, count, size int) syscall.Errno {
	for k := range count {
		v := &l.gather.vectors[k]
		for rest := unsafe.Slice(v.Base, v.Len); len(rest) > 0; {
			n := min(size, len(rest))
			if _, errno := rawSend(f.fd, rest[:n]); errno != 0 {
				return errno
			}
			rest = rest[n:]
		}
	}
	return 0
}

// answerClient receives a Backend's datagram into the batch of answers.
func (l *loop) answerClient(f *loopFlow) {
	if l.nanswers > 0 && (l.answering != f.front || l.nanswers == batchSize) {
		l.sendAnswers()
	}
	l.answering = f.front
	i := l.nanswers
	m := &l.answers.messages[i]
	m.header.Name, m.header.Namelen = nil, 0
	m.header.Control, m.header.Controllen = nil, 0
	l.answers.vectors[i].Len = maxDatagram
	n, errno := rawCall(unix.SYS_RECVMSG, uintptr(f.fd), uintptr(unsafe.Pointer(&m.header)), unix.MSG_DONTWAIT, 0, 0, 0)
	if errno != 0 {
		if errno == unix.ECONNREFUSED {
			l.flowRefused(f, errno)
		}
		return
	}
	l.heardBackend(f)
	f.down += uint64(n)
	f.counters.bytesDown.Add(uint64(n))
	l.answers.vectors[i].Len = uint64(n)
	l.answers.names[i] = f.client.raw
	m.header.Name, m.header.Namelen = (*byte)(unsafe.Pointer(&l.answers.names[i])), f.client.size
	l.nanswers++
}

// sendAnswers sends the batch of answers to the clients.
func (l *loop) sendAnswers() {
	if l.nanswers == 0 {
		return
	}
	if dropped := l.answers.send(l.answering.fd, l.nanswers); dropped > 0 {
		l.answering.tally.dropped.Add(uint64(dropped))
	}
	l.nanswers = 0
}
