package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"usher/registry"
)

// apply writes objects in one transaction, and waits until they are served.
func (h *harness) apply(objects ...registry.Object) {
	h.t.Helper()
	h.write(objects...)
	h.wait()
}

// write writes objects in one transaction.
func (h *harness) write(objects ...registry.Object) {
	h.revision++
	var writes []registry.Write
	for _, o := range objects {
		o.SetResourceVersion(fmt.Sprint(h.revision))
		writes = append(writes, registry.Write{Key: registry.KeyOf(o), Object: o})
	}
	h.store.Apply(h.revision, writes)
}

// reports returns what was reported, and what is closed at the next report.
func (h *harness) reports() ([]Status, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.statuses[:len(h.statuses):len(h.statuses)], h.reported
}

// awaitReports waits until there are n reports.
func (h *harness) awaitReports(n int) []Status {
	h.t.Helper()
	for {
		list, more := h.reports()
		if len(list) >= n {
			return list
		}
		select {
		case <-more:
		case <-time.After(patience):
			h.t.Fatalf("reports %+v; want %d", list, n)
		}
	}
}

// newService returns the Service "s" with ports that are named by their number.
func newService(ip string, ports ...uint16) *corev1.Service {
	svc := registry.Services.New().(*corev1.Service)
	svc.Namespace, svc.Name, svc.Spec.ClusterIP = "default", "s", ip
	for _, p := range ports {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", p), Port: int32(p), Protocol: tcp})
	}
	return svc
}

// newSlice returns the Backend of a port of the Service "s".
func newSlice(port uint16, addr netip.AddrPort) *discoveryv1.EndpointSlice {
	slice := registry.EndpointSlices.New().(*discoveryv1.EndpointSlice)
	slice.Namespace, slice.Name = "default", fmt.Sprint("s-", port)
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: "s"}
	slice.AddressType = discoveryv1.AddressTypeIPv4
	slice.Ports = []discoveryv1.EndpointPort{{Name: new(fmt.Sprint("p", port)), Port: new(int32(addr.Port())), Protocol: new(tcp)}}
	slice.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{addr.Addr().String()}}}
	return slice
}

// TestFailureIsTakenBack checks that nobody is left with a report of a failure
// that is no more.
func TestFailureIsTakenBack(t *testing.T) { eachEngine(t, testFailureIsTakenBack) }

func testFailureIsTakenBack(t *testing.T, start starter) {
	const ip = "127.96.0.5"
	taken := func(t *testing.T) (vip netip.AddrPort, release func()) {
		anywhere := freePort(t, "0.0.0.0")
		vip = netip.AddrPortFrom(netip.MustParseAddr(ip), anywhere.Port())
		other, err := net.Listen("tcp4", anywhere.String())
		if err != nil {
			t.Fatal(err)
		}
		packets, err := net.ListenPacket("udp4", anywhere.String())
		if err != nil {
			t.Fatal(err)
		}
		release = func() { other.Close(); packets.Close() }
		t.Cleanup(release)
		return vip, release
	}
	check := func(t *testing.T, h *harness, vip netip.AddrPort) {
		t.Helper()
		list, _ := h.reports()
		if len(list) != 2 || !errors.Is(list[0].Err, syscall.EADDRINUSE) || list[1].Err != nil ||
			list[1].Address.AddrPort != vip || list[1].Frontend.Service != list[0].Frontend.Service {
			t.Errorf("reports %+v; want one of %s in use, and that it is not any more", list, vip)
		}
	}
	t.Run("another port", func(t *testing.T) {
		h := start(t, Limits{})
		vip, _ := taken(t)
		h.apply(newService(ip, vip.Port()))
		h.apply(newService(ip, freePort(t, ip).Port()))
		check(t, h, vip)
	})
	t.Run("another Service", func(t *testing.T) {
		h := start(t, Limits{})
		vip, release := taken(t)
		svc := newService(ip, vip.Port())
		h.apply(svc)
		release()
		other := newService(ip, vip.Port())
		other.Name, other.ResourceVersion = "other", "3"
		h.revision++
		h.store.Apply(h.revision, []registry.Write{{Key: registry.KeyOf(svc)}, {Key: registry.KeyOf(other), Object: other}})
		h.wait()
		check(t, h, vip)
	})
	t.Run("no Backends for a time", func(t *testing.T) {
		h := start(t, Limits{})
		vip, release := taken(t)
		a, _ := serveUDP(t, "a")
		h.serve(vip, udp, ends(a)...)
		h.serve(vip, udp)
		release()
		h.serve(vip, udp, ends(a)...)
		check(t, h, vip)
		if got, err := exchange(dialUDP(t, vip), "x"); got != "ax" || err != nil {
			t.Errorf("afterwards: %q, %v", got, err)
		}
	})
}

// TestMovedPorts has the ports of a View that moves those under 1024 by 8000:
// which of two gets an address depends on what is wanted, and on nothing else.
func TestMovedPorts(t *testing.T) { eachEngine(t, testMovedPorts) }

func testMovedPorts(t *testing.T, start starter) {
	const ip = "127.96.77.5"
	vip := netip.AddrPortFrom(netip.MustParseAddr(ip), 8080)
	moved := func(s *setup) {
		s.listen = func(key registry.FrontendKey) []ListenAddr {
			if key.Port < 1024 {
				key.Port += 8000
			}
			return []ListenAddr{{AddrPort: key.AddrPort()}}
		}
	}
	web, _ := named(t, "80")
	alt, _ := named(t, "8080")
	expect := func(h *harness, want string) {
		t.Helper()
		if got, err := ask(vip); got != want || err != nil {
			t.Fatalf("%s answers as port %s, %v; want %s", vip, got, err, want)
		}
	}
	for range 10 {
		h := start(t, Limits{}, moved)
		h.apply(newSlice(80, web), newSlice(8080, alt), newService(ip, 80, 8080))
		expect(h, "8080")
		list, _ := h.reports()
		var held *HeldError
		if len(list) != 1 || !errors.As(list[0].Err, &held) || held.Holder.Port != 8080 {
			t.Fatalf("reports %+v; want one that port 8080 is there", list)
		}
		if got, want := held.Error(), "port 8080 of Service default/s is there"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		h.apply(newService(ip, 80))
		expect(h, "80")
		h.apply(newService(ip, 8080))
		expect(h, "8080")
		h.apply(newService(ip, 80))
		expect(h, "80")
		if list, _ := h.reports(); len(list) != 2 || list[1].Err != nil {
			t.Errorf("reports %+v; want a good one at the end", list)
		}
		h.apply(newService(ip, 80, 8080)) // the one that has it is not to keep it
		expect(h, "8080")
		if list, _ := h.reports(); len(list) != 3 || !errors.As(list[2].Err, &held) || held.Holder.Port != 8080 {
			t.Errorf("reports %+v; want one more that port 8080 is there", list)
		}
		h.stop()
	}
}

// An engineHook is an engine with something in between.
type engineHook struct {
	engine
	listening func(ListenAddr) error
	running   func(context.Context)
	updating  func() error
}

func (e engineHook) listen(f *frontend, at ListenAddr) (listener, error) {
	if e.listening != nil {
		if err := e.listening(at); err != nil {
			return nil, err
		}
	}
	l, err := e.engine.listen(f, at)
	if err != nil || e.updating == nil {
		return l, err
	}
	return listenerHook{l, e.updating}, nil
}

func (e engineHook) run(ctx context.Context) error {
	if e.running != nil {
		e.running(ctx)
	}
	return e.engine.run(ctx)
}

type listenerHook struct {
	listener
	updating func() error
}

func (l listenerHook) update(f *registry.Frontend) error {
	if err := l.updating(); err != nil {
		return err
	}
	return l.listener.update(f)
}

// hook puts hooks into the engine of a harness.
func hook(h engineHook) func(*setup) {
	return func(s *setup) {
		inner := s.engine
		s.engine = func(o engineOptions) engine {
			h.engine = inner(o)
			return h
		}
	}
}

// TestUpdateFails checks that a listener that cannot be resumed is reported,
// and opened again.
func TestUpdateFails(t *testing.T) { eachEngine(t, testUpdateFails) }

func testUpdateFails(t *testing.T, start starter) {
	var fails atomic.Bool
	h := start(t, Limits{}, hook(engineHook{updating: func() error {
		if fails.Load() {
			return syscall.EADDRINUSE
		}
		return nil
	}}))
	vip := freePort(t, "127.96.0.5")
	a, _ := named(t, "a")
	h.serve(vip, tcp)
	fails.Store(true)
	h.serve(vip, tcp, ends(a)...)
	if list, _ := h.reports(); len(list) != 1 || !errors.Is(list[0].Err, syscall.EADDRINUSE) {
		t.Fatalf("reports %+v; want the failure", list)
	}
	fails.Store(false)
	if list := h.awaitReports(2); list[1].Err != nil {
		t.Errorf("reports %+v; want a good one at the end", list)
	}
	if got, err := ask(vip); got != "a" || err != nil {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

// TestEngineEndsLast checks that the engine is not told to end while something
// may still be started in it.
func TestEngineEndsLast(t *testing.T) { eachEngine(t, testEngineEndsLast) }

func testEngineEndsLast(t *testing.T, start starter) {
	told := make(chan struct{})
	entered, leave := make(chan struct{}), make(chan struct{})
	h := start(t, Limits{}, hook(engineHook{
		running: func(ctx context.Context) { context.AfterFunc(ctx, func() { close(told) }) },
		listening: func(ListenAddr) error {
			close(entered)
			<-leave
			return nil
		},
	}))
	go h.store.Apply(2, []registry.Write{{
		Key: registry.KeyOf(newService("127.96.0.5", 1)), Object: newService("127.96.0.5", freePort(t, "127.96.0.5").Port()),
	}})
	<-entered
	var wg sync.WaitGroup
	wg.Go(h.stop)
	select {
	case <-told:
		t.Error("the engine was told to end while a listener was being opened")
	case <-time.After(100 * time.Millisecond):
	}
	close(leave)
	wg.Wait()
}

// TestExpired checks that the Proxy serves the present state when it has
// missed changes that the Store does not remember.
func TestExpired(t *testing.T) { eachEngine(t, testExpired) }

func testExpired(t *testing.T, start starter) {
	var once sync.Once
	entered, leave := make(chan struct{}), make(chan struct{})
	h := start(t, Limits{}, hook(engineHook{listening: func(ListenAddr) error {
		once.Do(func() {
			close(entered)
			<-leave
		})
		return nil
	}}))
	const ip = "127.96.0.5"
	old, now := freePort(t, ip), freePort(t, ip)
	a, _ := named(t, "a")
	h.write(newService(ip, old.Port()))
	<-entered
	h.write(newSlice(now.Port(), a), newService(ip, now.Port()))
	for i := 0; ; i++ { // until the Store has forgotten
		filler := registry.Namespaces.New().(*corev1.Namespace)
		filler.Name, filler.Labels = "filler", map[string]string{"i": fmt.Sprint(i)}
		h.write(filler)
		if i%1000 == 0 {
			if _, err := h.store.Watch(2); errors.Is(err, registry.ErrExpired) {
				break
			}
		}
	}
	close(leave)
	h.wait()
	if _, err := ask(old); !isRefused(err) {
		t.Errorf("a port of before: %v, want a refusal", err)
	}
	if got, err := ask(now); got != "a" || err != nil {
		t.Errorf("the port of now: %q, %v", got, err)
	}
}

// BenchmarkChange changes one Frontend while many cannot be listened at.
func BenchmarkChange(b *testing.B) { eachEngine(b, benchmarkChange) }

func benchmarkChange(b *testing.B, start starter) {
	for _, n := range []int{0, 5000} {
		b.Run(fmt.Sprintf("failures=%d", n), func(b *testing.B) {
			h := start(b, Limits{}, func(s *setup) { s.log = slog.DiscardHandler }, hook(engineHook{listening: func(at ListenAddr) error {
				if at.Port() == 1 {
					return syscall.EADDRINUSE
				}
				return nil
			}}))
			var objects []registry.Object
			for i := range n {
				svc := newService(fmt.Sprintf("127.97.%d.%d", i/250, 1+i%250), 1)
				svc.Name = fmt.Sprint("f-", i)
				objects = append(objects, svc)
			}
			if n > 0 {
				h.apply(objects...)
			}
			vip := freePort(b, "127.96.0.5")
			for i := 0; b.Loop(); i++ {
				h.serve(vip, tcp, ends(netip.AddrPortFrom(vip.Addr(), uint16(1+i%2)))...)
			}
		})
	}
}
