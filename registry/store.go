package registry

import (
	"context"
	"fmt"
	"sync"

	"github.com/hashicorp/go-memdb"
)

// A Store is this node's in-memory copy of the registry at one revision, with
// the EndpointSlices, Frontends and Backends that follow from it. It has one
// writer and any number of readers, which do not wait for each other: a reader
// takes a Snapshot, or follows the Commits with Watch.
type Store struct {
	log *commitLog

	mu sync.Mutex // held by the writer; guards db's write side
	db *memdb.MemDB

	synced   chan struct{} // closed by the first Replace
	isSynced bool          // guarded by mu
	local    Local         // guarded by mu
}

// NewStore returns an empty Store at revision 0.
func NewStore() *Store {
	db, err := memdb.NewMemDB(tables())
	if err != nil {
		panic("registry: " + err.Error())
	}
	return &Store{log: newCommitLog(&Snapshot{db: db.Snapshot()}), db: db, synced: make(chan struct{})}
}

// Snapshot returns the present state.
func (s *Store) Snapshot() *Snapshot { return s.log.now.Load() }

// Synced returns a channel that is closed once the Store has been filled for
// the first time. Until then an absent object means nothing.
func (s *Store) Synced() <-chan struct{} { return s.synced }

// WatchFrom returns a Watch of the Commits after snapshot: together they miss
// nothing, and have nothing twice. Its first Next says when the Store does not
// remember that far back.
func (s *Store) WatchFrom(snapshot *Snapshot) *Watch {
	return &Watch{log: s.log, next: snapshot.number + 1}
}

// Watch returns a Watch for somebody who knows the state at revision, and no
// Snapshot of it. It misses nothing, and may have twice what a full list has
// put right. It returns ErrExpired when the Store does not remember that far
// back, and when it has not got to revision.
func (s *Store) Watch(revision int64) (*Watch, error) { return s.log.after(revision) }

// WaitRevision waits until the Store has reached revision, or ctx is done.
func (s *Store) WaitRevision(ctx context.Context, revision int64) error {
	for {
		reached, grown := s.log.reached(revision)
		if reached {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d: %w", revision, context.Cause(ctx))
		}
	}
}

// Expire says that etcd no longer has the history of the Store: it went back
// to a backup, or was begun anew. What is there stays in force until the next
// Replace. Until then no revision counts as reached: the one of a new write may
// be far below the present one.
func (s *Store) Expire() { s.log.end() }

// A Write is the new state of one object in a transaction: Object is nil when
// the object is deleted. Objects belong to the Store from then on.
type Write struct {
	Key    Key
	Object Object
}

// Apply brings the Store to revision by writes, in one transaction. Several
// writes to one Key apply in order.
func (s *Store) Apply(revision int64, writes []Write) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tx := s.begin(revision)
	for _, w := range writes {
		tx.write(w)
	}
	s.commit(tx)
}

// Replace makes objects the whole content of the Store at revision, in one
// transaction that touches only what differs. Objects under keep stay as they
// are when objects does not have them: their present value is unreadable, and
// the last good one stays in force.
//
// The first one, one after Expire, and one at an earlier revision than the
// present begin another history: every Watch has expired then.
func (s *Store) Replace(revision int64, objects []Object, keep ...Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.Snapshot()
	tx := s.begin(revision)
	tx.anew = !s.isSynced || s.log.hasEnded() || revision < old.revision
	present := make(map[Key]bool, len(objects)+len(keep))
	for _, key := range keep {
		present[key] = true
	}
	for _, obj := range objects {
		present[KeyOf(obj)] = true
	}
	for _, k := range Kinds {
		for obj := range old.List(k, "") {
			if key := KeyOf(obj); !present[key] && !IsDerived(obj) {
				tx.write(Write{Key: key})
			}
		}
	}
	for _, obj := range objects {
		key := KeyOf(obj)
		if was := old.Get(key); was == nil || !tx.same(was, obj) {
			tx.write(Write{key, obj})
		}
	}
	s.commit(tx)
	if !s.isSynced {
		s.isSynced = true
		close(s.synced)
	}
}

func (s *Store) begin(revision int64) *transaction {
	txn := s.db.Txn(true)
	txn.TrackChanges()
	return &transaction{revision: revision, local: s.local, txn: txn}
}

// commit derives what follows from the writes of tx and publishes the result.
func (s *Store) commit(tx *transaction) {
	tx.derive()
	c := Commit{Revision: tx.revision}
	for _, ch := range tx.txn.Changes() {
		if ch.Table == frontendTable {
			old, _ := ch.Before.(*Frontend)
			now, _ := ch.After.(*Frontend)
			c.Frontends = append(c.Frontends, FrontendChange{old, now})
			continue
		}
		old, _ := ch.Before.(Object)
		now, _ := ch.After.(Object)
		c.Objects = append(c.Objects, Change{kindOfTable(ch.Table), old, now})
	}
	tx.txn.Commit()
	now := &Snapshot{db: s.db.Snapshot(), revision: tx.revision, local: tx.local}
	if tx.anew {
		s.log.restart(now)
	} else {
		s.log.append(c, now)
	}
}
