//go:build amd64 || arm64

package direct

import (
	"sync"
	"sync/atomic"
	"time"

	"usher/internal/sockdiag"
)

// An opening is a connect to a Backend that has gone well, or not.
type opening struct {
	pick
	sockdiag.Pair
	cookie   uint64 // of the program's socket; 0: there is no connection
	many     bool   // Multipath TCP: the kernel speaks of a socket within it
	answered bool
	started  time.Time
	tid      uint32
	number   int // the descriptor in which it was
}

// maxNoted bounds the openings that wait to be entered.
const maxNoted = 256

// notes are what was taken down while programs wait, and is to be entered in a
// ledger. Its lock is held for a moment only, whatever becomes of that there.
type notes struct {
	watcher *sockdiag.Watcher // who tells us of ends; nil: nobody

	mu       sync.Mutex // guards the following
	list     []opening
	used     bool     // something was noted, ever
	hears    bool     // the watcher tells us, now
	nameless []uint32 // threads whose programs are not known yet
	names    map[uint32]who

	anyNameless atomic.Bool // nameless may have some
	naming      sync.Mutex  // held by who finds them out
}

// add takes an opening down, or returns false if what is there has to be
// entered first.
func (s *notes) add(o *opening) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == maxNoted {
		return false
	}
	s.list, s.used = append(s.list, *o), true
	if w, ok := s.names[o.tid]; !ok || o.started.Sub(w.read) > nameAge {
		s.nameless = append(s.nameless, o.tid)
		s.anyNameless.Store(true)
	}
	if !s.hears && s.watcher != nil {
		s.hears = s.watcher.Join() == nil
	}
	return true
}

// take returns what is to be entered. The next is noted in room.
func (s *notes) take(room []opening) []opening {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.list
	s.list = room
	return list
}

// isUsed reports whether anything was ever noted.
func (s *notes) isUsed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// leave has the watcher tell us no more, unless something was noted.
func (s *notes) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hears && len(s.list) == 0 {
		s.watcher.Leave()
		s.hears = false
	}
}

// who returns the program of a thread, if that is known.
func (s *notes) who(tid uint32) who {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names[tid]
}
