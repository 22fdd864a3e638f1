package registry

import (
	"context"
	"errors"
	"sync"
)

// ErrExpired is returned to a watcher whose revision is older than what the
// Store remembers. It has to take a new Snapshot.
var ErrExpired = errors.New("registry: revision too old to watch from")

// A Change is the old and the new state of one object. Old is nil for a new
// object, New for a deleted one.
type Change struct {
	Kind     *Kind
	Old, New Object
}

// A FrontendChange is the old and the new state of one Frontend, as in Change.
type FrontendChange struct {
	Old, New *Frontend
}

// A Commit is what one transaction changed in the Store.
type Commit struct {
	Revision  int64
	Objects   []Change
	Frontends []FrontendChange
}

// logSize bounds how many Commits the Store remembers for watchers that are
// behind: at a thousand changes a second, several seconds.
const logSize = 8192

// A commitLog is a ring of the latest Commits. Its readers hold a position and
// no queue, so that a slow one costs nothing and slows nobody.
type commitLog struct {
	mu      sync.Mutex // guards the following
	ring    []Commit   // Commit number n is at n%logSize
	next    int64      // number of the next Commit
	expired int64      // watches after an earlier revision than this one are refused
	grown   chan struct{}
}

func newCommitLog() *commitLog {
	return &commitLog{grown: make(chan struct{})}
}

// append adds c and wakes the readers.
func (l *commitLog) append(c Commit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ring) < logSize {
		l.ring = append(l.ring, c)
	} else {
		at := l.next % logSize
		l.expired = l.ring[at].Revision
		l.ring[at] = c
	}
	l.next++
	close(l.grown)
	l.grown = make(chan struct{})
}

// startAt forgets what is before revision: nobody can watch from there.
func (l *commitLog) startAt(revision int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expired = max(l.expired, revision)
}

// A Watch reads the Commits of a Store in order. It is not safe for concurrent
// use, holds no resource, and is dropped when no longer needed.
type Watch struct {
	log   *commitLog
	next  int64
	after int64 // the revision of what was read last
}

// after returns a Watch of the Commits that follow revision.
func (l *commitLog) after(revision int64) (*Watch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if revision < l.expired {
		return nil, ErrExpired
	}
	oldest := l.next - int64(len(l.ring))
	n := l.next
	for n > oldest && l.ring[(n-1)%logSize].Revision > revision {
		n--
	}
	return &Watch{log: l, next: n, after: revision}, nil
}

// Next waits for Commits and returns all that there are, oldest first. It
// returns ErrExpired when the Store no longer has the next one, and the
// context's error when ctx is done.
func (w *Watch) Next(ctx context.Context) ([]Commit, error) {
	for {
		commits, grown, err := w.poll()
		if len(commits) > 0 || err != nil {
			return commits, err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// poll returns the Commits there are now, and what is closed at the next one.
func (w *Watch) poll() ([]Commit, <-chan struct{}, error) {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	oldest := w.log.next - int64(len(w.log.ring))
	if w.next < oldest {
		return nil, nil, ErrExpired
	}
	var commits []Commit
	for ; w.next < w.log.next; w.next++ {
		commits = append(commits, w.log.ring[w.next%logSize])
	}
	return commits, w.log.grown, nil
}

// wait returns a channel that is closed at the next Commit.
func (l *commitLog) wait() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.grown
}
