package etcd

import (
	"errors"
	"testing"
	"time"

	"usher/registry"
)

func TestLease(t *testing.T) {
	s := startServer(t)
	c := s.client()
	ctx := t.Context()
	store, _ := s.mirror(c)
	id, err := c.Grant(ctx, 60*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ParseLease(id.String()); err != nil || again != id {
		t.Errorf("ParseLease(%s) = %d, %v", id, again, err)
	}
	op := put(service("a"), 0)
	op.Lease = id
	written := commit(t, c, op, put(service("free"), 0))
	if err := c.KeepAlive(ctx, id); err != nil {
		t.Error(err)
	}
	rev, err := c.Revoke(ctx, id)
	if err != nil || rev <= written {
		t.Fatalf("Revoke = %d, %v after revision %d", rev, err, written)
	}
	waitRevision(t, store, rev)
	if has("a")(store.Snapshot()) || !has("free")(store.Snapshot()) {
		t.Error("an object outlived its lease, or one without a lease did not")
	}
	if err := c.KeepAlive(ctx, id); !errors.Is(err, ErrLeaseNotFound) {
		t.Errorf("keep an ended lease alive: %v, want ErrLeaseNotFound", err)
	}
	if _, err := c.Revoke(ctx, id); !errors.Is(err, ErrLeaseNotFound) {
		t.Errorf("revoke an ended lease: %v, want ErrLeaseNotFound", err)
	}
	empty, err := c.Grant(ctx, 60*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if rev, err := c.Revoke(ctx, empty); err != nil || rev != 0 {
		t.Errorf("Revoke of a lease without objects = %d, %v", rev, err)
	}
}

// TestLeaseOfDeadOwner lets a lease end by itself, after a restart too.
func TestLeaseOfDeadOwner(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.client()
	store, _ := s.mirror(c)
	w := watch(t, store)
	id, err := c.Grant(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	op := put(service("a"), 0)
	op.Lease = id
	waitRevision(t, store, commit(t, c, op))
	s.kill(nil)
	waitState(t, store, w, func(s *registry.Snapshot) bool { return !has("a")(s) })
	// Another process may take its place.
	op.Lease = 0
	commit(t, c, op)
}

func TestParseLease(t *testing.T) {
	for name, want := range map[string]LeaseID{
		"1": 1, "694d": 0x694d, "7fffffffffffffff": 1<<63 - 1,
		"": 0, "0": 0, "-1": 0, "8000000000000000": 0, "0x1": 0, "1 ": 0, "xyz": 0,
	} {
		got, err := ParseLease(name)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("ParseLease(%q) = %d, %v, want %d", name, got, err, want)
		}
	}
}
