package etcd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"usher/registry"
)

// changes lists the changed objects of Commits in words.
func changes(commits []registry.Commit) []string {
	var list []string
	for _, c := range commits {
		for _, change := range c.Objects {
			switch {
			case change.Old == nil:
				list = append(list, "+"+change.New.GetName())
			case change.New == nil:
				list = append(list, "-"+change.Old.GetName())
			default:
				list = append(list, "~"+change.New.GetName())
			}
		}
	}
	return list
}

func has(name string) func(*registry.Snapshot) bool {
	return func(s *registry.Snapshot) bool { return s.Service("default", name) != nil }
}

// TestMirror follows creates, updates and deletes: in order, at their
// revisions, and a transaction as one Commit.
func TestMirror(t *testing.T) {
	s := startServer(t)
	c := s.client()
	commit(t, c, put(service("before"), 0))
	store, _ := s.mirror(c)
	if !has("before")(store.Snapshot()) {
		t.Fatal("the list does not have what was there before")
	}
	w := watch(t, store)
	a := service("a")
	first := commit(t, c, put(a, 0), put(claim("10.96.0.7", "a"), 0))
	commits := waitState(t, store, w, has("a"))
	if len(commits) != 1 || commits[0].Revision != first || len(commits[0].Objects) != 2 {
		t.Fatalf("one transaction of two objects came as %+v", commits)
	}
	a.Labels = map[string]string{"x": "1"}
	second := commit(t, c, put(a, first))
	commit(t, c, put(service("b"), 0))
	commit(t, c, remove(a, second))
	commit(t, c, remove(service("before"), Any), put(service("after"), 0))
	commits = waitState(t, store, w, has("after"))
	for i := 1; i < len(commits); i++ {
		if commits[i].Revision <= commits[i-1].Revision {
			t.Errorf("revision %d after %d", commits[i].Revision, commits[i-1].Revision)
		}
	}
	// The objects of one Commit have no order.
	got := changes(commits)
	if len(got) == 5 && got[3] == "-before" {
		got[3], got[4] = got[4], got[3]
	}
	if diff := cmp.Diff([]string{"~a", "+b", "-a", "+after", "-before"}, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// TestMirrorGarbage writes what is no object straight into etcd: it is
// reported once and skipped, and the last good state stays.
func TestMirrorGarbage(t *testing.T) {
	s := startServer(t)
	c := s.client()
	commit(t, c, put(service("a"), 0))
	store, bad := runMirror(t, &Mirror{Client: c, resync: 20 * time.Millisecond})
	write := func(key, value string) {
		t.Helper()
		if _, err := c.etcd.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	key := registry.KeyOf(service("a")).String()
	write(key, "garbage")
	write(registry.Prefix+"services/default/new", "\x00\xff")
	write(registry.Prefix+"what/is/this", "{}")
	write("/usher/else", "garbage") // outside of the registry
	waitRevision(t, store, commit(t, c, put(service("after"), 0)))
	snap := store.Snapshot()
	if !has("a")(snap) || has("new")(snap) {
		t.Error("garbage changed more than nothing")
	}
	if got := bad.all(); len(got) != 3 || !strings.HasPrefix(got[0], key) {
		t.Errorf("reports: %q", got)
	}
	// Lists meet it too: those that come later, and a new mirror's first.
	w := watch(t, store)
	for lists := 0; lists < 3; {
		commits, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lists += len(commits)
	}
	if !has("a")(store.Snapshot()) || len(bad.all()) != 3 {
		t.Errorf("lists with garbage in them: %q", bad.all())
	}
	other, bad2 := s.mirror(c)
	if !has("after")(other.Snapshot()) || len(bad2.all()) != 3 {
		t.Errorf("a first list with garbage in it: %q", bad2.all())
	}
	// A good value ends it, as does to delete it; the next garbage is news.
	good := service("a")
	good.Labels = map[string]string{"x": "good"}
	waitRevision(t, store, commit(t, c, put(good, Any)))
	if got := store.Snapshot().Service("default", "a").Labels["x"]; got != "good" {
		t.Errorf("label of the good value: %q", got)
	}
	write(key, "garbage again")
	until(t, "a report of it", func() bool { return len(bad.all()) == 4 }) // a list could pass it by
	waitRevision(t, store, commit(t, c, remove(good, Any)))
	if has("a")(store.Snapshot()) {
		t.Error("a deleted object is still there")
	}
	if got := bad.all(); len(got) != 4 {
		t.Errorf("reports: %q", got)
	}
}

// TestMirrorPages lists more than a page, while somebody writes to the first
// and to the last of them: all pages are of one moment.
func TestMirrorPages(t *testing.T) {
	s := startServer(t)
	c := s.client()
	const count = 2*listPage + 7
	for i := 0; i < count; i += 100 {
		var ops []Op
		for n := i; n < min(i+100, count); n++ {
			ops = append(ops, put(service(fmt.Sprintf("s%05d", n)), 0))
		}
		commit(t, c, ops...)
	}
	numbered := func(name string, n int) Op {
		svc := service(name)
		svc.Labels = map[string]string{"n": fmt.Sprint(n)}
		return put(svc, Any)
	}
	written := 0
	write := func() error {
		written++
		_, err := c.Commit(context.Background(), numbered("a", written), numbered("z", written))
		return err
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	stop, writer := make(chan struct{}), new(errgroup.Group)
	writer.Go(func() error {
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			if err := write(); err != nil {
				return err
			}
		}
	})
	for range 5 {
		store, _ := s.mirror(s.client())
		snap, n := store.Snapshot(), 0
		for range snap.Services("") {
			n++
		}
		if n != count+2 {
			t.Errorf("%d Services of %d", n, count+2)
		}
		if a, z := snap.Service("default", "a").Labels["n"], snap.Service("default", "z").Labels["n"]; a != z {
			t.Errorf("the first page is of write %s, the last of write %s", a, z)
		}
	}
	close(stop)
	if err := writer.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d writes meanwhile", written)
}

// TestMirrorCompaction changes objects and compacts history while the mirror is
// cut off: it lists again, deletions included, and touches nothing else.
func TestMirrorCompaction(t *testing.T) {
	s := startServer(t)
	c := s.client()
	for _, name := range []string{"stays", "goes"} {
		commit(t, c, put(service(name), 0))
	}
	line := newLine(t, SocketPath(s.dir))
	store, _ := s.mirror(dial(t, Config{Endpoints: []string{"unix://" + line.socket}}))
	w := watch(t, store)
	commit(t, c, put(service("heard"), 0))
	waitState(t, store, w, has("heard"))

	line.cut()
	rev := commit(t, c, remove(service("goes"), Any), put(service("comes"), 0))
	if _, err := c.etcd.Compact(t.Context(), rev, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	if has("comes")(store.Snapshot()) {
		t.Fatal("the mirror was not cut off")
	}
	line.restore()
	commits := waitState(t, store, w, has("comes"))
	got := strings.Join(changes(commits), " ")
	if got != "-goes +comes" && got != "+comes -goes" {
		t.Errorf("changes: %s", got)
	}
}

// TestMirrorResync lists again and again: that changes nothing, except what
// the watch has missed.
func TestMirrorResync(t *testing.T) {
	s := startServer(t)
	c := s.client()
	commit(t, c, put(service("a"), 0))
	commit(t, c, put(service("b"), 0))
	store, _ := runMirror(t, &Mirror{Client: c, resync: 20 * time.Millisecond})
	w := watch(t, store)
	for lists := 0; lists < 5; {
		commits, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, commit := range commits {
			if len(commit.Objects)+len(commit.Frontends) > 0 {
				t.Fatalf("a list that found nothing new changed %v", changes(commits))
			}
		}
		lists += len(commits)
	}
	// A lost event and one that never was, for which a Store without the
	// object and with another one stand. Nothing is written: what is put right
	// has no revision of its own, and yet comes to all who watch.
	before := store.Snapshot()
	client, err := store.Watch(before.Revision())
	if err != nil {
		t.Fatal(err)
	}
	store.Apply(before.Revision(), []registry.Write{
		{Key: registry.KeyOf(service("a"))}, {Key: registry.KeyOf(service("x")), Object: service("x")},
	})
	for name, w := range map[string]*registry.Watch{"from a Snapshot": store.WatchFrom(before), "from a revision": client} {
		var got []string
		for _, c := range waitState(t, store, w, func(s *registry.Snapshot) bool { return has("a")(s) && !has("x")(s) }) {
			list := changes([]registry.Commit{c}) // in no order
			slices.Sort(list)
			got = append(got, list...)
		}
		if diff := cmp.Diff([]string{"+x", "-a", "+a", "-x"}, got); diff != "" {
			t.Errorf("changes of a watch %s (-want +got):\n%s", name, diff)
		}
	}
}

// TestMirrorBeganAnew has etcd lose everything: it is at an earlier revision
// than the Store. A mere watch would not hear of it.
func TestMirrorBeganAnew(t *testing.T) {
	tests := []struct {
		name  string
		check time.Duration
		own   bool // the first write is by the Mirror's own Client
	}{
		{"and writes to it", time.Hour, true},
		{"and looks at it", 20 * time.Millisecond, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := startServer(t)
			c := s.client()
			for i := range 10 {
				commit(t, c, put(service(fmt.Sprint("old", i)), 0))
			}
			store, _ := runMirror(t, &Mirror{Client: c, check: tt.check})
			w := watch(t, store)
			s.kill(func() { os.RemoveAll(filepath.Join(s.dir, "member")) })
			writer := c
			if !tt.own {
				writer = s.client()
			}
			rev := commitAgain(t, writer, put(service("new"), Any))
			if tt.own {
				// Who waits for the write has it, though the Store has had a
				// higher revision for long.
				waitRevision(t, store, rev)
				if snap := store.Snapshot(); !has("new")(snap) || has("old0")(snap) {
					t.Error("a revision of the new history was reached by the old one")
				}
			} else {
				until(t, "the new state", func() bool { return has("new")(store.Snapshot()) })
			}
			if got := store.Snapshot().Revision(); got != rev {
				t.Errorf("the Store is at revision %d, want %d", got, rev)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if commits, err := w.Next(ctx); !errors.Is(err, registry.ErrExpired) {
				t.Errorf("a Watch of the old history: %v, %v, want ErrExpired", changes(commits), err)
			}
			// And goes on from there.
			w = watch(t, store)
			commit(t, c, put(service("newer"), 0))
			if got := changes(waitState(t, store, w, has("newer"))); len(got) != 1 || got[0] != "+newer" {
				t.Errorf("changes of the new history: %v", got)
			}
		})
	}
}

// TestMirrorNotBack makes requests whose answers have no revision of their own:
// that is no sign of another history.
func TestMirrorNotBack(t *testing.T) {
	s := startServer(t)
	c := s.client()
	store, _ := s.mirror(c)
	w := watch(t, store)
	rev := commit(t, c, put(service("a"), 0))
	waitState(t, store, w, has("a"))
	for range 100 {
		if got := commit(t, c, remove(service("nobody"), Any)); got != rev {
			t.Errorf("to delete what is not there was revision %d after %d", got, rev)
		}
		if _, err := c.Commit(t.Context(), put(service("a"), 0)); !errors.As(err, new(*ConflictError)) {
			t.Error(err)
		}
		if _, err := c.Get(t.Context(), registry.KeyOf(service("a"))); err != nil {
			t.Error(err)
		}
	}
	waitRevision(t, store, commit(t, c, put(service("b"), 0)))
	if got := changes(waitState(t, store, w, has("b"))); len(got) != 1 {
		t.Errorf("changes: %v", got)
	}
}

// TestMirrorProgress writes outside of the registry: the Store reaches the
// revision though it has no event.
func TestMirrorProgress(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.client()
	store, _ := s.mirror(c)
	resp, err := c.etcd.Put(t.Context(), "/other/key", "x")
	if err != nil {
		t.Fatal(err)
	}
	waitRevision(t, store, resp.Header.Revision)
}
