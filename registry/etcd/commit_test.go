package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"usher/registry"
)

func service(name string) *corev1.Service {
	svc := registry.Services.New().(*corev1.Service)
	svc.Namespace, svc.Name = "default", name
	svc.Spec.Ports = []corev1.ServicePort{{Port: 80}}
	registry.SetDefaults(svc)
	return svc
}

func claim(ip, owner string) *networkingv1.IPAddress {
	a := registry.IPAddresses.New().(*networkingv1.IPAddress)
	a.Name = ip
	a.Spec.ParentRef = &networkingv1.ParentReference{Resource: "services", Namespace: "default", Name: owner}
	return a
}

func put(obj registry.Object, revision int64) Op {
	return Op{Key: registry.KeyOf(obj), Object: obj, Revision: revision}
}

func remove(obj registry.Object, revision int64) Op {
	return Op{Key: registry.KeyOf(obj), Revision: revision}
}

func TestCommit(t *testing.T) {
	c := startServer(t).client()
	a, b, d := service("a"), service("b"), service("d")
	first := commit(t, c, put(a, 0))
	second := commit(t, c, put(a, first))
	dRev := commit(t, c, put(d, 0))
	exists := &ConflictError{Key: registry.KeyOf(a), Exists: true, Revision: second}
	absent := &ConflictError{Key: registry.KeyOf(b)}
	tests := []struct {
		name string
		ops  []Op
		want *ConflictError // without Current
	}{
		{"create what exists", []Op{put(a, 0)}, exists},
		{"update an old state", []Op{put(a, first)}, exists},
		{"update a state to come", []Op{put(a, second+1)}, exists},
		{"update what is not there", []Op{put(b, second)}, absent},
		{"delete an old state", []Op{remove(a, first)}, exists},
		{"delete what is not there", []Op{remove(b, second)}, absent},
		{"the second of two", []Op{put(b, 0), put(a, 0)}, exists},
		{"both of two", []Op{put(b, second), put(a, 0)}, absent},
		{"after one of any state", []Op{put(d, Any), put(a, 0)}, exists},
		{"delete whatever is there, and nothing is", []Op{remove(service("x"), Any)}, nil},
		{"delete what must not be there, and is not", []Op{remove(service("x"), 0)}, nil},
		{"write whatever is there", []Op{put(a, Any)}, nil},
		{"two at once", []Op{put(service("c"), 0), put(claim("10.96.0.7", "c"), 0)}, nil},
		{"delete and create", []Op{remove(d, dRev), put(service("e"), 0)}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.Commit(t.Context(), tt.ops...)
			var got *ConflictError
			if errors.As(err, &got) {
				if got.Exists != (got.Current != nil) || got.Exists && registry.KeyOf(got.Current) != got.Key {
					t.Errorf("current object %v", got.Current)
				}
				got.Current = nil
			} else if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b *registry.Kind) bool { return a == b })); diff != "" {
				t.Errorf("conflict (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := c.Get(t.Context(), registry.KeyOf(b)); !errors.Is(err, ErrNotFound) {
		t.Errorf("a part of a transaction that failed was written: %v", err)
	}
	if _, err := c.Get(t.Context(), registry.KeyOf(d)); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted: %v, want ErrNotFound", err)
	}
	got, err := c.Get(t.Context(), registry.KeyOf(service("c")))
	if err != nil || got.GetResourceVersion() == "" {
		t.Errorf("Get = %v, %v", got, err)
	}
}

// TestConflictUnreadable checks that a conflict with garbage is a conflict.
func TestConflictUnreadable(t *testing.T) {
	c := startServer(t).client()
	a := service("a")
	resp, err := c.etcd.Put(t.Context(), registry.KeyOf(a).String(), "garbage")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Commit(t.Context(), put(a, 0))
	conflict, ok := errors.AsType[*ConflictError](err)
	if !ok || !conflict.Exists || conflict.Revision != resp.Header.Revision || conflict.Current != nil {
		t.Errorf("error %#v, want a conflict without an object at revision %d", err, resp.Header.Revision)
	}
	if _, err := c.Get(t.Context(), registry.KeyOf(a)); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("Get of garbage: %v", err)
	}
}

func TestCommitLimits(t *testing.T) {
	c := startServer(t).client()
	sized := func(name string, size int) *corev1.Service {
		svc := service(name)
		svc.Annotations = map[string]string{"x": strings.Repeat("x", size)}
		return svc
	}
	many := make([]Op, 129)
	for i := range many {
		many[i] = put(service(fmt.Sprint("s", i)), 0)
	}
	leased := put(service("d"), 0)
	leased.Lease = 12345
	tests := []struct {
		name string
		ops  []Op
		want error
	}{
		{"1 MiB", []Op{put(sized("a", 1<<20), 0)}, nil},
		{"128 ops", many[:128], nil},
		{"1.6 MiB", []Op{put(sized("b", 1600<<10), 0)}, ErrTooLarge},
		{"3 MiB, more than a message of grpc may have", []Op{put(sized("b", 3<<20), 0)}, ErrTooLarge},
		{"129 ops", many, ErrTooLarge},
		{"a lease that is not there", []Op{leased}, ErrLeaseNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := c.Commit(t.Context(), tt.ops...); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

// TestClaimsRace lets clients race for the same addresses: each is won once,
// and the winner's Service is written with it.
func TestClaimsRace(t *testing.T) {
	s := startServer(t)
	const racers, addresses = 4, 200
	var won [addresses]atomic.Int32
	var wg sync.WaitGroup
	for r := range racers {
		c := s.client()
		wg.Go(func() {
			for i := range addresses {
				name := fmt.Sprintf("s%d-%d", r, i)
				_, err := c.Commit(context.Background(), put(claim(fmt.Sprintf("10.96.1.%d", i), name), 0), put(service(name), 0))
				if err == nil {
					won[i].Add(1)
				} else if !errors.As(err, new(*ConflictError)) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for i := range won {
		if n := won[i].Load(); n != 1 {
			t.Errorf("address %d was won %d times", i, n)
		}
	}
	store, _ := s.mirror(s.client())
	n := 0
	for svc := range store.Snapshot().Services("") {
		var i, r int
		fmt.Sscanf(svc.Name, "s%d-%d", &r, &i)
		ip := store.Snapshot().Get(registry.Key{Kind: registry.IPAddresses, Name: fmt.Sprintf("10.96.1.%d", i)})
		if owner := ip.(*networkingv1.IPAddress).Spec.ParentRef.Name; owner != svc.Name {
			t.Errorf("%s was written without its address, which %s has", svc.Name, owner)
		}
		n++
	}
	if n != addresses {
		t.Errorf("%d Services for %d addresses", n, addresses)
	}
}

// TestUnavailable checks that a registry that is away is an answer in time, and
// that what was never sent is known not to be written.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	c := dial(t, Config{Endpoints: []string{"unix://" + t.TempDir() + "/nobody.sock"}})
	requests := map[string]func() error{
		"commit": func() error { _, err := c.Commit(t.Context(), put(service("a"), 0)); return err },
		"get":    func() error { _, err := c.Get(t.Context(), registry.KeyOf(service("a"))); return err },
		"grant":  func() error { _, err := c.Grant(t.Context(), time.Second); return err },
		"keep":   func() error { return c.KeepAlive(t.Context(), 1) },
		"revoke": func() error { _, err := c.Revoke(t.Context(), 1); return err },
	}
	var wg sync.WaitGroup
	for name, request := range requests {
		wg.Go(func() {
			start := time.Now()
			err := request()
			if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUncertain) {
				t.Errorf("%s: %v, want ErrUnavailable", name, err)
			}
			if took := time.Since(start); took > requestTimeout+time.Second {
				t.Errorf("%s took %v", name, took)
			}
		})
	}
	wg.Wait()
}

// TestUncertain kills the server while clients write. A write that failed for
// certain must not be there, and one that succeeded must.
func TestUncertain(t *testing.T) {
	s := startServer(t)
	commit(t, s.client(), put(service("first"), 0))
	const writers, rounds = 4, 5
	var mu sync.Mutex
	fate := make(map[string]error)
	for round := range rounds {
		var wg sync.WaitGroup
		var begun atomic.Int32
		for w := range writers {
			c := s.client()
			wg.Go(func() {
				for i := range 20 {
					name := fmt.Sprintf("s%d-%d-%d", round, w, i)
					begun.Add(1)
					_, err := c.Commit(context.Background(), put(service(name), 0))
					mu.Lock()
					fate[name] = err
					mu.Unlock()
				}
			})
		}
		until(t, "some writes", func() bool { return begun.Load() > 30 })
		s.kill(nil)
		wg.Wait()
	}
	commitAgain(t, s.client(), put(service("last"), Any))
	store, _ := s.mirror(s.client())
	uncertain := 0
	for name, err := range fate {
		written := store.Snapshot().Service("default", name) != nil
		switch {
		case err == nil && !written:
			t.Errorf("%s was acknowledged and is lost", name)
		case errors.Is(err, ErrUncertain):
			uncertain++
		case err != nil && written:
			t.Errorf("%s was written: %v", name, err)
		}
	}
	t.Logf("%d of %d writes uncertain after %d kills", uncertain, len(fate), rounds)
}

func BenchmarkCommit(b *testing.B) {
	c := startServer(b).client()
	i := 0
	for b.Loop() {
		i++
		name := fmt.Sprintf("s%d", i)
		commit(b, c, put(claim(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), name), 0), put(service(name), 0))
	}
}
