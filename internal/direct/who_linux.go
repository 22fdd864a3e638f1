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
func (l *ledger) identify() {
	if l.anyNameless.Load() && l.naming.TryLock() {
		defer l.naming.Unlock()
		l.identifyLocked()
	}
}

// identifyAll is identify for whoever needs them all.
func (l *ledger) identifyAll() {
	l.naming.Lock()
	defer l.naming.Unlock()
	l.identifyLocked()
}

func (l *ledger) identifyLocked() {
	if !l.anyNameless.Swap(false) {
		return
	}
	l.mu.Lock()
	list := l.nameless
	l.nameless = nil
	l.mu.Unlock()
	for _, tid := range list {
		w := whoIs(tid)
		l.mu.Lock()
		if len(l.names) >= maxNames {
			clear(l.names)
		}
		l.names[tid] = w
		l.mu.Unlock()
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
