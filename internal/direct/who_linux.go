//go:build amd64 || arm64

package direct

import (
	"bytes"
	"fmt"
	"os"
	"time"
)

// A who is a program that connects.
type who struct {
	pid     int
	command string
	read    time.Time
}

// nameAge is how old the name of a program may be: an exec gives a new one.
const nameAge = time.Second

// maxNames bounds the threads whose programs are remembered.
const maxNames = 4096

// identify finds out whose connections are new, unless somebody is about that.
// It reads files of /proc, after the program was answered: it does not wait for
// that.
func (s *notes) identify() {
	if s.anyNameless.Load() && s.naming.TryLock() {
		defer s.naming.Unlock()
		s.identifyLocked()
	}
}

// identifyAll is identify for whoever needs them all.
func (s *notes) identifyAll() {
	s.naming.Lock()
	defer s.naming.Unlock()
	s.identifyLocked()
}

func (s *notes) identifyLocked() {
	if !s.anyNameless.Swap(false) {
		return
	}
	s.mu.Lock()
	list := s.nameless
	s.nameless = nil
	s.mu.Unlock()
	for _, tid := range list {
		w := whoIs(tid)
		s.mu.Lock()
		if len(s.names) >= maxNames {
			clear(s.names)
		}
		s.names[tid] = w
		s.mu.Unlock()
	}
}

// whoIs returns the program of a thread.
func whoIs(tid uint32) who {
	w := who{read: time.Now()}
	if pid, err := processOf(tid); err == nil {
		w.pid = pid
	}
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", tid))
	w.command = string(bytes.TrimSpace(comm))
	return w
}
