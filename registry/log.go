package registry

import (
	"context"
	"errors"
	"sort"
	"sync"
	"sync/atomic"
)

// ErrExpired is returned to a watcher that is further behind than the Store
// remembers. It has to take a new Snapshot.
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

// A Commit is what one transaction changed in the Store. Several may have one
// revision: what a full list puts right happened at no revision of its own.
type Commit struct {
	Number    int64 // one more than that of the Commit before; a new history skips one
	Revision  int64
	Objects   []Change
	Frontends []FrontendChange
}

// What the Store remembers for watchers that are behind: at a thousand changes
// a second, several seconds. A Commit may hold a megabyte, so that a number
// alone would bound nothing.
const (
	logSize  = 8192
	logBytes = 64 << 20
)

// A commitLog has the latest Commits. Its readers hold a position and no
// queue, so that a slow one costs nothing and slows nobody.
type commitLog struct {
	budget int64 // of the cost of all commits: logBytes; others in tests

	now atomic.Pointer[Snapshot] // after the last Commit; set with mu held

	mu      sync.Mutex // guards the following
	commits []logged
	cost    int64 // of commits
	expired int64 // revision of the last Commit that is forgotten
	several bool  // and of the one before that, which who has seen one may not have
	ended   bool  // etcd no longer has the history that now is of
	grown   chan struct{}
}

// A logged Commit has the cost at which it was taken.
type logged struct {
	Commit
	cost int64
}

func newCommitLog(empty *Snapshot) *commitLog {
	l := &commitLog{budget: logBytes, grown: make(chan struct{})}
	l.now.Store(empty)
	return l
}

// append adds c, with the state after it, and wakes the readers. The oldest
// Commits make room for it; it stays, whatever its size.
func (l *commitLog) append(c Commit, after *Snapshot) {
	cost := c.cost()
	l.mu.Lock()
	defer l.mu.Unlock()
	c.Number = l.advance(after)
	l.commits = append(l.commits, logged{c, cost})
	l.cost += cost
	for len(l.commits) > 1 && (len(l.commits) > logSize || l.cost > l.budget) {
		l.several = l.commits[0].Revision == l.expired
		l.expired = l.commits[0].Revision
		l.cost -= l.commits[0].cost
		l.commits[0] = logged{} // the array behind the slice would hold it
		l.commits = l.commits[1:]
	}
}

// restart begins a history with the state at its beginning. Its revisions say
// nothing about those of the history before: everybody who follows that one
// has expired, also who has read all of it.
func (l *commitLog) restart(at *Snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance(at)
	l.commits, l.cost, l.expired, l.several, l.ended = nil, 0, at.revision, false, false
}

// advance makes now the present state, under the next number, and wakes the
// readers, who wait for the lock.
func (l *commitLog) advance(now *Snapshot) (number int64) {
	now.number = l.now.Load().number + 1
	l.now.Store(now)
	close(l.grown)
	l.grown = make(chan struct{})
	return now.number
}

// end notes that etcd no longer has the present history.
func (l *commitLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

// hasEnded reports whether that was noted.
func (l *commitLog) hasEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// reached reports whether the present state is at revision or later, and
// returns what is closed when there is another.
func (l *commitLog) reached(revision int64) (bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.ended && l.now.Load().revision >= revision, l.grown
}

// first returns the number of the oldest of commits.
func (l *commitLog) first() int64 { return l.now.Load().number + 1 - int64(len(l.commits)) }

// A Watch reads the Commits of a Store in order. It is not safe for concurrent
// use, holds no resource, and is dropped when no longer needed.
type Watch struct {
	log  *commitLog
	next int64 // number of the Commit to read next
}

// after returns a Watch of the Commits that follow revision. Where several have
// that revision it is not known how many of them the watcher has seen: it gets
// all but the first.
func (l *commitLog) after(revision int64) (*Watch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now.Load().revision
	if revision < l.expired || revision == l.expired && l.several && revision < now || revision > now {
		return nil, ErrExpired
	}
	n := 0
	if revision > l.expired {
		n = sort.Search(len(l.commits), func(i int) bool { return l.commits[i].Revision >= revision })
		if l.commits[n].Revision == revision {
			n++
		}
	}
	return &Watch{log: l, next: l.first() + int64(n)}, nil
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
	unread := w.next - w.log.first()
	if unread < 0 {
		return nil, nil, ErrExpired
	}
	var commits []Commit
	for _, c := range w.log.commits[unread:] {
		commits = append(commits, c.Commit)
		w.next = c.Number + 1
	}
	return commits, w.log.grown, nil
}
