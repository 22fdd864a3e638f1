package proxy

import (
	"container/heap"
	"fmt"
	"slices"
	"time"

	"usher/registry"
)

// Back-off of listening at an address that somebody else has.
const (
	minListenRetry = time.Second
	maxListenRetry = 30 * time.Second
)

// A HeldError is why an address cannot be listened at that this Proxy has
// given to another Frontend, as a port that was moved may be.
type HeldError struct{ Holder *registry.Frontend }

func (e *HeldError) Error() string {
	return fmt.Sprintf("port %d of Service %s is there", e.Holder.Port, e.Holder.Service)
}

// A failure is why an address of a Frontend cannot be listened at for now.
type failure struct {
	frontend *frontend
	at       ListenAddr
	err      error
	wait     time.Duration
	due      time.Time // when to try again
	index    int       // in the heap
}

// failures are ordered by when they are due (container/heap). They are found
// by Frontend and by socket: a change costs the same however many there are.
type failures []*failure

func (h failures) Len() int           { return len(h) }
func (h failures) Less(i, j int) bool { return h[i].due.Before(h[j].due) }

func (h failures) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *failures) Push(x any) {
	f := x.(*failure)
	f.index = len(*h)
	*h = append(*h, f)
}

func (h *failures) Pop() any {
	last := len(*h) - 1
	f := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return f
}

// fail notes that an address cannot be listened at, and reports what is new
// about it.
func (p *Proxy) fail(f *frontend, at ListenAddr, err error) {
	now, was := f.failed[at], error(nil)
	if now == nil {
		now = &failure{frontend: f, at: at, wait: minListenRetry}
		if f.failed == nil {
			f.failed = make(map[ListenAddr]*failure)
		}
		f.failed[at] = now
		heap.Push(&p.failures, now)
		s := f.socket(at)
		p.waiting[s] = append(p.waiting[s], now)
	} else {
		was = now.err
		now.wait = min(2*now.wait, maxListenRetry)
	}
	now.err, now.due = err, time.Now().Add(now.wait)
	heap.Fix(&p.failures, now.index)
	if was == nil || was.Error() != err.Error() {
		want := f.now.Load()
		p.options.Log.Warn("cannot listen", "service", want.Service, "address", at.AddrPort, "error", err)
		p.options.Report(Status{want, at, err})
	}
}

// forget takes a failure back: the address is listened at, or not wanted.
func (p *Proxy) forget(x *failure) {
	delete(x.frontend.failed, x.at)
	heap.Remove(&p.failures, x.index)
	s := x.frontend.socket(x.at)
	p.waiting[s] = slices.DeleteFunc(p.waiting[s], func(y *failure) bool { return x == y })
	if len(p.waiting[s]) == 0 {
		delete(p.waiting, s)
	}
	p.options.Report(Status{x.frontend.now.Load(), x.at, nil})
}

// nextRetry returns when the next failure is due.
func (p *Proxy) nextRetry() (time.Time, bool) {
	if len(p.failures) == 0 {
		return time.Time{}, false
	}
	return p.failures[0].due, true
}

// retry listens again where that is due.
func (p *Proxy) retry() {
	now := time.Now()
	for len(p.failures) > 0 && !p.failures[0].due.After(now) {
		p.listen(p.failures[0].frontend, p.failures[0].at)
	}
}
