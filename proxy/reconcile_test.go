package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"usher/registry"
)

// TestConflict checks that an address somebody else has is reported, leaves
// other Services alone, and is taken once it is free.
func TestConflict(t *testing.T) { eachEngine(t, testConflict) }

func testConflict(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	other, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", vip.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	a, _ := named(t, "a")
	h.serve(vip, tcp, ends(a)...)
	fine := freePort(t, "127.96.0.6")
	h.serve(fine, tcp, ends(a)...)
	if got, err := ask(fine); got != "a" || err != nil {
		t.Errorf("another Service: %q, %v", got, err)
	}
	h.mu.Lock()
	statuses, reported := h.statuses, h.reported
	h.mu.Unlock()
	if len(statuses) != 1 || !errors.Is(statuses[0].Err, syscall.EADDRINUSE) || statuses[0].Address.AddrPort != vip {
		t.Fatalf("reports %+v; want one of %s in use", statuses, vip)
	}
	other.Close()
	select {
	case <-reported:
	case <-time.After(patience):
		t.Fatal("no report that it works now")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.statuses) != 2 || h.statuses[1].Err != nil {
		t.Errorf("reports %+v; want a good one at the end", h.statuses)
	}
	if got, err := ask(vip); got != "a" || err != nil {
		t.Errorf("after the conflict: %q, %v", got, err)
	}
}

// TestManyFrontends opens and closes a thousand.
func TestManyFrontends(t *testing.T) { eachEngine(t, testManyFrontends) }

func testManyFrontends(t *testing.T, start starter) {
	h := start(t, Limits{})
	a, _ := named(t, "a")
	var objects []registry.Object
	const n = 500
	vip := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 96, byte(10 + i/250), byte(1 + i%250)}), 18080)
	}
	for i := range n {
		svc := registry.Services.New().(*corev1.Service)
		svc.Namespace, svc.Name, svc.ResourceVersion = "default", fmt.Sprint("many-", i), "2"
		svc.Spec.ClusterIP = vip(i).Addr().String()
		svc.Spec.Ports = []corev1.ServicePort{{Port: 18080, Protocol: tcp}}
		eps := registry.Endpoints.New().(*corev1.Endpoints)
		eps.Namespace, eps.Name, eps.ResourceVersion = "default", svc.Name, "2"
		eps.Subsets = []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: a.Addr().String()}},
			Ports:     []corev1.EndpointPort{{Port: int32(a.Port()), Protocol: tcp}},
		}}
		objects = append(objects, svc, eps)
	}
	h.revision = 2
	h.store.Replace(2, objects)
	h.wait()
	for i := range n {
		if got, err := ask(vip(i)); got != "a" || err != nil {
			t.Fatalf("Frontend %d: %q, %v", i, got, err)
		}
	}
	h.revision = 3
	h.store.Replace(3, objects[:2])
	h.wait()
	if got, err := ask(vip(0)); got != "a" || err != nil {
		t.Errorf("the one that stays: %q, %v", got, err)
	}
	for i := 1; i < n; i += 50 {
		if _, err := ask(vip(i)); !isRefused(err) {
			t.Errorf("Frontend %d after the end: %v", i, err)
		}
	}
}

// TestWentBack has etcd go back. That the Proxy had a higher revision before
// does not mean that it serves one of the new history.
func TestWentBack(t *testing.T) {
	store := registry.NewStore()
	var busy sync.Mutex // held to keep the Proxy from its work
	p := New(Options{Store: store, Listen: func(registry.FrontendKey) []ListenAddr {
		busy.Lock()
		defer busy.Unlock()
		return nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	wait := func(revision int64, patience time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		return p.WaitRevision(ctx, revision)
	}
	svc := registry.Services.New().(*corev1.Service)
	svc.Namespace, svc.Name, svc.Spec.ClusterIP = "default", "a", "127.96.0.5"
	svc.Spec.Ports = []corev1.ServicePort{{Port: 80, Protocol: tcp}}
	store.Replace(100, nil)
	if err := wait(100, patience); err != nil {
		t.Fatal(err)
	}
	busy.Lock()
	store.Replace(50, []registry.Object{svc})
	err := wait(50, 50*time.Millisecond)
	busy.Unlock()
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the Proxy has not come to revision 50, and says: %v", err)
	}
	if err := wait(50, patience); err != nil {
		t.Error(err)
	}
}

func BenchmarkConnection(b *testing.B) { eachEngine(b, benchmarkConnection) }

func benchmarkConnection(b *testing.B, start starter) {
	h := start(b, Limits{})
	vip := freePort(b, "127.96.0.5")
	a, _ := named(b, "a")
	h.serve(vip, tcp, ends(a)...)
	for b.Loop() {
		if _, err := ask(vip); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBulk(b *testing.B) { eachEngine(b, benchmarkBulk) }

func benchmarkBulk(b *testing.B, start starter) {
	h := start(b, Limits{})
	vip := freePort(b, "127.96.0.5")
	const size = 64 << 20
	data := make([]byte, 1<<20)
	h.serve(vip, tcp, ends(serveTCP(b, func(c *net.TCPConn) {
		for range size / len(data) {
			c.Write(data)
		}
	}))...)
	b.SetBytes(size)
	buf := make([]byte, 1<<20)
	for b.Loop() {
		c := dialTCP(b, vip)
		for n := 0; n < size; {
			m, err := c.Read(buf)
			if err != nil {
				b.Fatal(n, err)
			}
			n += m
		}
		c.Close()
	}
}

// TestShow has a ServiceCIDR come and go whose range is visible as long as it is
// there. A range is given back when nobody listens in it.
func TestShow(t *testing.T) { eachEngine(t, testShow) }

func testShow(t *testing.T, start starter) {
	vip := freePort(t, "127.97.0.5")
	var shown atomic.Bool
	closedWhile := make(chan error, 8)
	h := start(t, Limits{}, func(s *setup) {
		s.listen = func(key registry.FrontendKey) []ListenAddr {
			if !shown.Load() {
				return nil
			}
			return []ListenAddr{{AddrPort: key.AddrPort()}}
		}
		s.show = func(snapshot *registry.Snapshot) func() {
			visible := len(snapshot.ServiceRanges(corev1.IPv4Protocol)) > 0
			if was := shown.Swap(visible); was == visible {
				return nil
			}
			return func() {
				_, err := ask(vip)
				closedWhile <- err
			}
		}
	})
	server, _ := named(t, "a")
	h.serve(vip, tcp, ends(server)...)
	cidr := registry.ServiceCIDRs.New().(*networkingv1.ServiceCIDR)
	cidr.Name, cidr.Spec.CIDRs = "more", []string{"127.97.0.0/16"}
	for range 2 {
		for _, obj := range []registry.Object{cidr, nil} {
			h.revision++
			if obj != nil {
				obj.SetResourceVersion(fmt.Sprint(h.revision))
			}
			h.store.Apply(h.revision, []registry.Write{{Key: registry.KeyOf(cidr), Object: obj}})
			h.wait()
			got, err := ask(vip)
			switch atClose := <-closedWhile; {
			case obj != nil && (got != "a" || atClose != nil):
				t.Errorf("with the range: %q, %v, and %v at its end", got, err, atClose)
			case obj == nil && (!isRefused(err) || !isRefused(atClose)):
				t.Errorf("without the range: %q, %v; when it is given back: %v", got, err, atClose)
			}
		}
	}
	h.serve(vip, tcp, ends(server, server)...) // another change shows nothing anew
	if len(closedWhile) > 0 {
		t.Error("the ranges are looked at for a Service")
	}
}
