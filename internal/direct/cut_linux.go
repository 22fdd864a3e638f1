//go:build amd64 || arm64

package direct

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"usher/internal/sockdiag"
	"usher/registry"
)

// cut ends the connections to Backends that have been removed, where their
// Services want that.
func (t *Translator) cut() {
	snapshot := t.state.store.Snapshot()
	var list []*connection
	for _, c := range t.ledger.answered() {
		// With its Service, what that wanted is gone.
		f := snapshot.Frontend(c.frontend.now.Load().FrontendKey)
		if f != nil && !f.Keeps(c.Remote) {
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		return
	}
	_ = t.ledger.refresh() // of one that is reset nothing is counted any more
	for _, c := range list {
		f := c.frontend.now.Load()
		if !t.cutOne(c, f.Removed) {
			t.say(fmt.Sprintf("a connection of %s to %s, which is no backend of %s any more, stays: its socket is not where it was",
				c.command, c.Remote, f.Service))
		}
	}
}

// answered returns the connections that are open and have a Backend.
func (l *ledger) answered() (list []*connection) {
	l.lock()
	defer l.mu.Unlock()
	for _, c := range l.sockets {
		if c.answered && !c.cut {
			list = append(list, c)
		}
	}
	return list
}

// cutOne ends one connection. It returns false if its socket is not found.
func (t *Translator) cutOne(c *connection, how registry.Removed) bool {
	l := t.ledger
	l.lock()
	c.cut = true
	if c.pid == 0 {
		c.who = l.notes.who(c.tid)
	}
	pid, number, over := c.pid, c.number, !c.ended.IsZero()
	l.mu.Unlock()
	if over {
		return true
	}
	fd, ok := findSocket(pid, number, c.cookie)
	if !ok {
		return false
	}
	defer unix.Close(fd)
	if how == registry.RemovedClose {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		return true
	}
	disconnect(fd)
	l.lock()
	defer l.mu.Unlock()
	if c.ended.IsZero() {
		l.end(c, new(sockdiag.Socket)) // the socket itself goes on
	}
	return true
}

// findSocket returns a duplicate of a socket of a process: of the descriptor in
// which it was, or else of another one.
func findSocket(pid, number int, cookie uint64) (fd int, ok bool) {
	if fd, ok := (place{pid, number}).find(cookie); ok {
		return fd, true
	}
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		target, err := os.Readlink(dir + e.Name())
		if err != nil || !strings.HasPrefix(target, "socket:") {
			continue
		}
		if other, err := strconv.Atoi(e.Name()); err == nil {
			if fd, ok := (place{pid, other}).find(cookie); ok {
				return fd, true
			}
		}
	}
	return -1, false
}
