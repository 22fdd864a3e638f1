package registry

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// TestOtherHistory has etcd go back: what anybody knows by its revisions is
// void, even where they are the same.
func TestOtherHistory(t *testing.T) {
	tests := []struct {
		name     string
		expire   bool
		revision int64
	}{
		{"at an earlier revision", false, 60},
		{"noticed before", true, 60},
		{"at the same revision", true, 100},
		{"at a later revision", true, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewStore()
			s.Replace(40, nil)
			s.Apply(50, writes(objects(t, 50, payment)))
			before := s.Snapshot()
			s.Apply(100, nil)
			follower, forgetful := s.WatchFrom(s.Snapshot()), s.WatchFrom(before)
			if tt.expire {
				s.Expire()
			}
			s.Replace(tt.revision, objects(t, 50, strings.ReplaceAll(payment, "10.96.143.7", "10.96.143.8")))
			if got := frontends(s.Snapshot()); !strings.HasPrefix(got, "10.96.143.8:80") {
				t.Errorf("another object of the same revision was not taken: %s", got)
			}
			for name, w := range map[string]*Watch{
				"that has read all": follower, "that has not": forgetful, "that begins with an old Snapshot": s.WatchFrom(before),
			} {
				if _, _, err := w.poll(); !errors.Is(err, ErrExpired) {
					t.Errorf("a Watch %s: %v, want ErrExpired", name, err)
				}
			}
			for _, r := range []int64{50, tt.revision - 1, tt.revision + 1} {
				if _, err := s.Watch(r); !errors.Is(err, ErrExpired) {
					t.Errorf("watch from revision %d: %v, want ErrExpired", r, err)
				}
			}
			w, err := s.Watch(tt.revision)
			if err != nil {
				t.Fatal(err)
			}
			s.Apply(tt.revision+1, nil)
			if commits, _, err := w.poll(); err != nil || len(commits) != 1 || commits[0].Revision != tt.revision+1 {
				t.Errorf("the new history: %+v, %v", commits, err)
			}
		})
	}
}

// TestWaitRevisionExpired waits for a revision that the Store has had in a
// history that ended.
func TestWaitRevisionExpired(t *testing.T) {
	s := NewStore()
	s.Replace(100, nil)
	s.Expire()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.WaitRevision(ctx, 3); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("revision 3 counts as reached at 100 of a history that ended: %v", err)
	}
	s.Apply(101, nil) // what the Mirror still had to read
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.WaitRevision(ctx, 3); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("revision 3 counts as reached at 101 of a history that ended: %v", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- s.WaitRevision(t.Context(), 3) }()
	s.Replace(3, nil)
	if err := <-waited; err != nil {
		t.Error(err)
	}
}
