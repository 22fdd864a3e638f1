package proxy

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// What the sockets of a connection and of a flow take of a budget.
const (
	perConnection = 2
	perFlow       = 1
)

// A budget bounds how many descriptors all listeners, connections and flows
// have between them, so that some are left for the rest of the process.
type budget struct {
	limit int

	mu      sync.Mutex // guards the following
	used    int
	waiters int
	freed   chan struct{} // closed, when somebody waits, as something is given back
}

func newBudget(limit int) *budget { return &budget{limit: limit, freed: make(chan struct{})} }

// take takes n, if there are as many.
func (b *budget) take(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.limit {
		return false
	}
	b.used += n
	return true
}

// add takes n, or with a negative n gives some back, whatever the limit.
func (b *budget) add(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += n
	if n < 0 && b.waiters > 0 {
		close(b.freed)
		b.freed = make(chan struct{})
	}
}

// excess returns how many are taken beyond nine tenths of the limit.
func (b *budget) excess() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used - b.limit/10*9
}

// wait takes n as soon as there are as many. It reports false when givenUp is
// closed before.
func (b *budget) wait(n int, givenUp <-chan struct{}) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiters++
	defer func() { b.waiters-- }()
	for b.used+n > b.limit {
		freed := b.freed
		b.mu.Unlock()
		select {
		case <-freed:
			b.mu.Lock()
		case <-givenUp:
			b.mu.Lock()
			return false
		}
	}
	b.used += n
	return true
}

// defaultDescriptors leaves a quarter of what this process may open to others:
// etcd, the API and DNS.
func defaultDescriptors() int {
	const enough = 1 << 30
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > enough {
		return enough
	}
	return int(limit.Cur) / 4 * 3
}

// An episode is a row of like events, of which only the first is logged.
type episode struct{ last atomic.Int64 }

// episodeGap is how long there is nothing between two episodes.
const episodeGap = 10 * time.Second

// begins notes an event, and reports whether it is the first of an episode.
func (e *episode) begins() bool {
	now := time.Now().UnixNano()
	return now-e.last.Swap(now) > int64(episodeGap)
}
