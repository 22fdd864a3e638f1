package proxy

// The kernel wakes the loop that began to wait last for a new connection, so
// that one loop would come to have nearly all, and its clients to wait for a
// single core. A connection is handed over where another loop has clearly
// fewer; while that is not so it stays where it was accepted, which is cheaper.

// sharedSlack is by how many connections, and by which part of them, a loop may
// have more than another.
const (
	sharedSlack = 2
	sharedPart  = 16
)

// lighter returns the index of a loop that has clearly fewer connections than
// l, or that of l.
func (e *loops) lighter(l *loop) int {
	least := l.index
	for i, other := range e.all {
		if other.load.Load() < e.all[least].load.Load() {
			least = i
		}
	}
	load := l.load.Load()
	if load-e.all[least].load.Load() <= sharedSlack+load/sharedPart {
		return l.index
	}
	return least
}

// place gives an accepted connection, with its part of the budget, to the loop that is to have it.
func (l *loop) place(a *acceptor, fd int32) {
	i := l.engine.lighter(l)
	to := l.engine.all[i]
	to.load.Add(1) // now: the next choice depends on it
	if to == l {
		l.begin(a, fd)
		return
	}
	a = a.listener.acceptors[i]
	if !to.post(func() { to.begin(a, fd) }) {
		l.engine.budget.add(-perConnection)
		l.opts.resetOnClose(fd)
		rawClose(fd)
	}
}
