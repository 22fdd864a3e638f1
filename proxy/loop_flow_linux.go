package proxy

import (
	"syscall"

	"golang.org/x/sys/unix"

	"usher/balancer"
	"usher/registry"
)

// A loopFlow is a Flow of the event loops: a client and a socket connected to its
// Backend. The kernel drops what others send to that, and tells of a refusal.
type loopFlow struct {
	front      *front
	id         int32 // in the flowTable
	generation uint32
	fd         int32
	stage      flowStage
	proven     bool  // the present choice has had an answer
	tried      uint8 // Backends of choice that were used
	place      uint8 // place in choice of the present one
	heard      int64 // when the last datagram came, in either direction
	client     sockaddr
	key        clientKey
	choice     balancer.Choice
	backend    *registry.Backend
	counters   *counters // of backend
	started    int64
	up, down   uint64 // bytes
	last       []byte // the client's last datagram, to be sent again; nil when there is no need

	byAge     flowLink // among the flows of the front at the same stage
	byBackend flowLink // among those of the front with the same Backend
}

// A flowStage says how far a flow has come.
type flowStage uint8

const (
	oneWay   flowStage = iota // no Backend has answered
	answered                  // a Backend has, and the client said nothing since
	talking                   // the client goes on
	stages
)

// A clientKey is a client's address as the key of a map.
type clientKey struct {
	high, low uint64
	port      uint16
}

// A flowLink puts a flow into a list.
type flowLink struct{ before, after *loopFlow }

// A flowList is a doubly linked list of flows through one of their links.
type flowList struct {
	first, last *loopFlow
	link        func(*loopFlow) *flowLink
}

func byAge(f *loopFlow) *flowLink     { return &f.byAge }
func byBackend(f *loopFlow) *flowLink { return &f.byBackend }

func (l *flowList) push(f *loopFlow) {
	link := l.link(f)
	*link = flowLink{before: l.last}
	if l.last != nil {
		l.link(l.last).after = f
	} else {
		l.first = f
	}
	l.last = f
}

func (l *flowList) remove(f *loopFlow) {
	link := l.link(f)
	if link.before != nil {
		l.link(link.before).after = link.after
	} else {
		l.first = link.after
	}
	if link.after != nil {
		l.link(link.after).before = link.before
	} else {
		l.last = link.before
	}
	*link = flowLink{}
}

// moveToLast makes f the last one.
func (l *flowList) moveToLast(f *loopFlow) {
	if l.last != f {
		l.remove(f)
		l.push(f)
	}
}

// A flowTable has the flows of a loop in slabs.
type flowTable struct {
	slabs []*[slabSize]loopFlow
	free  []int32
	used  int
}

func (t *flowTable) at(id int32) *loopFlow { return &t.slabs[id>>slabBits][id&(slabSize-1)] }

func (t *flowTable) take() *loopFlow {
	if len(t.free) == 0 {
		base := int32(len(t.slabs)) * slabSize
		slab := new([slabSize]loopFlow)
		t.slabs = append(t.slabs, slab)
		for i := range slab {
			slab[i].id = base + int32(i)
			t.free = append(t.free, slab[i].id)
		}
	}
	f := t.at(t.free[len(t.free)-1])
	t.free = t.free[:len(t.free)-1]
	t.used++
	return f
}

func (t *flowTable) put(f *loopFlow) {
	*f = loopFlow{id: f.id, generation: (f.generation + 1) & genMask, last: f.last[:0]}
	t.free = append(t.free, f.id)
	t.used--
}

// reach moves f to a stage, as the one that was heard of last.
func (l *loop) reach(f *loopFlow, stage flowStage) {
	f.heard = l.now
	if f.stage == stage {
		f.front.byAge[stage].moveToLast(f)
		return
	}
	f.front.byAge[f.stage].remove(f)
	f.stage = stage
	f.front.byAge[stage].push(f)
}

// heardClient notes a datagram of the client.
func (l *loop) heardClient(f *loopFlow) {
	if f.stage == oneWay {
		l.reach(f, oneWay)
	} else {
		l.reach(f, talking)
	}
}

// heardBackend notes an answer.
func (l *loop) heardBackend(f *loopFlow) {
	if !f.proven {
		f.proven = true
		l.settleFlow(f)
	}
	l.letGo(f)
	l.reach(f, max(f.stage, answered))
}

// victim returns the flow that makes room for another one: the longest idle of
// those that are no conversation. A client that has had its answer has lost
// nothing, should it come back; one that waits is likely to get it soon.
func (fr *front) victim() *loopFlow {
	waiting, done := fr.byAge[oneWay].first, fr.byAge[answered].first
	switch {
	case waiting != nil && (done == nil || waiting.heard < done.heard):
		return waiting
	case done != nil:
		return done
	}
	return fr.byAge[talking].first
}

// openFlow makes a flow for a client, or returns nil when there is no Backend,
// or no means for it.
func (l *loop) openFlow(fr *front, key clientKey, client *sockaddr) *loopFlow {
	if client.port() == 0 || l.engine.own.contains(client.addrPort()) {
		// A datagram from one of our own addresses is a forgery that would make two
		// Services talk to each other for ever (CVE-2024-2169).
		return nil
	}
	f := l.placeForFlow(fr)
	if f == nil {
		return nil
	}
	f.front, f.key, f.client, f.heard, f.started = fr, key, *client, l.now, l.now
	f.choice = fr.frontend.picker.Pick(client.addrPort().Addr(), l.now)
	fr.flows[key] = f
	fr.byAge[oneWay].push(f)
	fr.tally.flows.Add(1)
	if !l.nextFlowBackend(f) {
		l.endFlow(f)
		return nil
	}
	return f
}

// placeForFlow returns a place for one more flow of a front: a new one, or that
// of the victim where there are as many as there may be. It returns nil when
// there is neither.
func (l *loop) placeForFlow(fr *front) *loopFlow {
	if len(fr.flows) < l.engine.limits.MaxFlows {
		if l.engine.budget.take(perFlow) {
			fr.tally.activeFlows.Add(1)
			f := l.flows.take()
			f.fd = -1
			return f
		}
		l.engine.noteLocal(unix.EMFILE)
	}
	f := fr.victim()
	if f == nil {
		return nil
	}
	l.leaveBackend(f)
	f.choice.Release(int(f.place))
	fr.byAge[f.stage].remove(f)
	delete(fr.flows, f.key)
	l.disconnect(f)
	l.letGo(f)
	*f = loopFlow{id: f.id, generation: f.generation, fd: f.fd, last: f.last[:0]}
	return f
}

// disconnect makes the socket of a flow ready for another one, which is cheaper
// than a new socket. It gets another port: late answers to this one find
// nobody, and those that have come are thrown away.
func (l *loop) disconnect(f *loopFlow) {
	l.address = sockaddr{size: unix.SizeofSockaddrInet4} // AF_UNSPEC
	if rawConnect(f.fd, &l.address) != 0 {
		rawClose(f.fd)
		f.fd = -1
		return
	}
	for {
		if _, errno := rawRecv(f.fd, l.buf); errno != 0 {
			return
		}
	}
}

// nextFlowBackend connects a flow to the next Backend of its choice that still
// serves. It reports false when there is none.
func (l *loop) nextFlowBackend(f *loopFlow) bool {
	again := f.backend != nil
	l.leaveBackend(f)
	for int(f.tried) < min(f.choice.Len(), maxAttempt) {
		b := f.choice.At(int(f.tried))
		f.tried++
		if f.tried > 1 && !f.front.frontend.serves(b) { // it has left since
			continue
		}
		if l.engine.own.contains(b.Address) {
			l.engine.noteLoop(f.front.frontend, b)
			continue
		}
		errno := l.connectFlow(f, b)
		if errno == 0 {
			f.backend = b
			f.moved()
			f.counters = f.front.tally.of(b.Address)
			f.counters.flows.Add(1)
			f.counters.activeFlows.Add(1)
			if again || f.tried > 1 {
				f.counters.retries.Add(1)
			}
			f.front.backendFlows(b.Address).push(f)
			return true
		}
		if isLocalErrno(errno) {
			l.engine.noteLocal(errno)
			return false
		}
		f.front.tally.of(b.Address).dialErrors.Add(1)
		l.flowFailed(f, errno)
	}
	return false
}

// connectFlow connects the socket of a flow, which it opens at first.
func (l *loop) connectFlow(f *loopFlow, b *registry.Backend) syscall.Errno {
	l.address.set(b.Address)
	if f.fd >= 0 { // to another Backend than before
		if errno := rawConnect(f.fd, &l.address); errno == 0 {
			return 0
		}
		rawClose(f.fd)
		f.fd = -1
	}
	fd, errno := rawSocket(family(b.Address.Addr()), unix.SOCK_DGRAM)
	if errno != 0 {
		return errno
	}
	if errno = rawConnect(fd, &l.address); errno == 0 {
		errno = l.watchFlow(fd, f)
	}
	if errno != 0 {
		rawClose(fd)
		return errno
	}
	f.fd = fd
	return 0
}

// leaveBackend takes f out of the list of its Backend.
func (l *loop) leaveBackend(f *loopFlow) {
	if f.backend == nil {
		return
	}
	list := f.front.byBackend[f.backend.Address]
	list.remove(f)
	if list.first == nil {
		delete(f.front.byBackend, f.backend.Address)
	}
	f.counters.activeFlows.Add(-1)
	f.front.tally.leave(f.backend.Address, f.counters)
	f.backend, f.counters = nil, nil
}

// endFlow ends a flow. Late answers of its Backend find no socket.
func (l *loop) endFlow(f *loopFlow) {
	l.leaveBackend(f)
	f.choice.Release(int(f.place))
	f.front.byAge[f.stage].remove(f)
	delete(f.front.flows, f.key)
	if f.fd >= 0 {
		rawClose(f.fd)
	}
	f.front.tally.activeFlows.Add(-1)
	l.engine.budget.add(-perFlow)
	l.letGo(f)
	l.flows.put(f)
}

// flowEvent acts on an event of a flow's socket.
func (l *loop) flowEvent(f *loopFlow, events uint32) {
	if events&unix.EPOLLERR != 0 {
		l.flowRefused(f, l.opts.takeError(f.fd))
		return
	}
	l.answerClient(f)
}

// flowRefused gives a flow another Backend when the present one refuses, and
// sends the last datagram again: the kernel says that it was not delivered.
func (l *loop) flowRefused(f *loopFlow, errno syscall.Errno) {
	if errno == 0 {
		return
	}
	f.counters.dialErrors.Add(1)
	l.flowFailed(f, errno)
	if f.proven { // it has served until now: all have their chance again
		f.choice.Release(int(f.place))
		f.choice = f.front.frontend.picker.Pick(f.client.addrPort().Addr(), l.now)
		f.tried, f.place, f.proven = 0, 0, false
	}
	if !l.nextFlowBackend(f) {
		f.front.tally.dropped.Add(1)
		l.endFlow(f)
		return
	}
	if f.last != nil {
		rawSend(f.fd, f.last) // which may be empty
	}
}

// sweepFlows ends the flows that have been idle for too long.
func (l *loop) sweepFlows() {
	limits := &l.engine.limits
	for _, fr := range l.fronts {
		if fr == nil {
			continue
		}
		for stage := range fr.byAge {
			limit := int64(limits.FlowIdle)
			if flowStage(stage) == oneWay {
				limit = int64(limits.FlowUnanswered)
			}
			list := &fr.byAge[stage]
			for f := list.first; f != nil && l.now-f.heard >= limit; f = list.first {
				l.endFlow(f)
			}
		}
	}
}
