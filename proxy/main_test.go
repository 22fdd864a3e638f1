package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"usher/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test.
const patience = 20 * time.Second

// A harness is a Proxy over a Store that the test writes. A VIP is listened at
// itself: they are loopback addresses here.
type harness struct {
	t        testing.TB
	store    *registry.Store
	proxy    *Proxy
	revision int64
	stop     func() // ends the Proxy and waits for that

	mu       sync.Mutex // guards the following
	statuses []Status
	reported chan struct{} // closed at the next one
}

// engines are those that every test of the Proxy runs over.
var engines = map[string]func(engineOptions) engine{
	"portable": func(o engineOptions) engine { return newPortable(o) },
}

// A setup is what a harness is made with, beside limits.
type setup struct {
	listen func(registry.FrontendKey) []ListenAddr
	engine func(engineOptions) engine
	log    slog.Handler

	observe func(Sync) // may be nil
	show    func(*registry.Snapshot) (closed func())
}

// A starter starts a harness over one engine.
type starter func(t testing.TB, limits Limits, change ...func(*setup)) *harness

// eachEngine runs a test or a benchmark over every engine.
func eachEngine[T interface {
	testing.TB
	Run(string, func(T)) bool
}](t T, test func(T, starter)) {
	for name, engine := range engines {
		t.Run(name, func(t T) {
			test(t, func(t testing.TB, limits Limits, change ...func(*setup)) *harness {
				s := newSetup(t, engine)
				for _, c := range change {
					c(&s)
				}
				return startWith(t, limits, s)
			})
		})
	}
}

func newSetup(t testing.TB, engine func(engineOptions) engine) setup {
	return setup{
		listen: func(key registry.FrontendKey) []ListenAddr { return []ListenAddr{{AddrPort: key.AddrPort()}} },
		engine: engine,
		log:    slog.NewTextHandler(t.Output(), nil),
	}
}

// overEngine runs a test over one engine alone, of whose behaviour it is.
func overEngine(t *testing.T, name string, test func(*testing.T, starter)) {
	eachEngine(t, func(t *testing.T, start starter) {
		if strings.HasSuffix(t.Name(), "/"+name) {
			test(t, start)
		}
	})
}

func startWith(t testing.TB, limits Limits, s setup) *harness {
	t.Helper()
	h := &harness{t: t, store: registry.NewStore(), reported: make(chan struct{})}
	h.proxy = newProxy(Options{
		Store: h.store, Limits: limits, Log: slog.New(s.log), Listen: s.listen, Show: s.show, Observe: s.observe,
		Report: func(s Status) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.statuses = append(h.statuses, s)
			close(h.reported)
			h.reported = make(chan struct{})
		},
	}, s.engine)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.proxy.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the proxy does not end")
		}
	})
	t.Cleanup(h.stop)
	h.revision = 1
	h.store.Replace(1, nil)
	h.wait()
	return h
}

func (h *harness) wait() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.proxy.WaitRevision(ctx, h.revision); err != nil {
		h.t.Fatal(err)
	}
}

// An end is a Backend as a test gives it.
type end struct {
	addr     netip.AddrPort
	draining bool
	notReady bool
}

func ends(addrs ...netip.AddrPort) []end {
	var list []end
	for _, a := range addrs {
		list = append(list, end{addr: a})
	}
	return list
}

// nameOf returns the name of the Service of vip.
func nameOf(vip netip.AddrPort) string {
	return "s" + strings.Map(func(r rune) rune {
		if r == '.' || r == ':' || r == '[' || r == ']' {
			return '-'
		}
		return r
	}, vip.String())
}

// serve makes vip a Service with the Backends, and waits until it is served.
func (h *harness) serve(vip netip.AddrPort, protocol corev1.Protocol, backends ...end) {
	h.t.Helper()
	h.serveAs(vip, protocol, func(*corev1.Service) {}, backends...)
}

// serveAs is serve for a Service that is changed first.
func (h *harness) serveAs(vip netip.AddrPort, protocol corev1.Protocol, change func(*corev1.Service), backends ...end) {
	h.t.Helper()
	name := nameOf(vip)
	svc := registry.Services.New().(*corev1.Service)
	svc.Namespace, svc.Name = "default", name
	svc.Spec.ClusterIP = vip.Addr().String()
	svc.Spec.Ports = []corev1.ServicePort{{Port: int32(vip.Port()), Protocol: protocol}}
	change(svc)
	h.revision++
	svc.ResourceVersion = fmt.Sprint(h.revision)
	writes := []registry.Write{{Key: registry.KeyOf(svc), Object: svc}}
	// One slice for each Backend: their ports differ.
	for i := range 8 {
		slice := registry.EndpointSlices.New().(*discoveryv1.EndpointSlice)
		slice.Namespace, slice.Name = "default", fmt.Sprintf("%s-%d", name, i)
		key := registry.KeyOf(slice)
		if i >= len(backends) {
			if h.store.Snapshot().Get(key) != nil {
				writes = append(writes, registry.Write{Key: key})
			}
			continue
		}
		slice.Labels = map[string]string{discoveryv1.LabelServiceName: name}
		slice.AddressType = discoveryv1.AddressTypeIPv4
		slice.Ports = []discoveryv1.EndpointPort{{Port: new(int32(backends[i].addr.Port())), Protocol: &protocol}}
		slice.Endpoints = []discoveryv1.Endpoint{{
			Addresses: []string{backends[i].addr.Addr().String()},
			Conditions: discoveryv1.EndpointConditions{
				Ready: new(!backends[i].draining && !backends[i].notReady), Serving: new(!backends[i].notReady), Terminating: new(backends[i].draining),
			},
		}}
		slice.ResourceVersion = fmt.Sprint(h.revision)
		writes = append(writes, registry.Write{Key: key, Object: slice})
	}
	h.store.Apply(h.revision, writes)
	h.wait()
}

// remove deletes the Service of vip.
func (h *harness) remove(vip netip.AddrPort) {
	h.t.Helper()
	h.revision++
	h.store.Apply(h.revision, []registry.Write{{Key: registry.Key{
		Kind: registry.Services, Namespace: "default", Name: nameOf(vip),
	}}})
	h.wait()
}

// next returns the Backend whose turn it is.
func (h *harness) next(vip netip.AddrPort, protocol corev1.Protocol) netip.AddrPort {
	b, _ := h.proxy.Next(registry.FrontendKey{Address: vip.Addr(), Port: vip.Port(), Protocol: protocol})
	return b.Address
}

// freePort returns an address that nothing listens on, over neither protocol.
func freePort(t testing.TB, ip string) netip.AddrPort {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp4", ip+":0")
		if err != nil {
			t.Fatal(err)
		}
		addr := netip.MustParseAddrPort(l.Addr().String())
		p, err := net.ListenPacket("udp4", addr.String())
		l.Close()
		if err == nil {
			p.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return netip.AddrPort{}
}

// serveTCP runs a server that calls handle for each connection.
func serveTCP(t testing.TB, handle func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	return serveAt(t, netip.AddrFrom4([4]byte{127, 0, 0, 1}), handle)
}

// serveAt is serveTCP at an address.
func serveAt(t testing.TB, addr netip.Addr, handle func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				time.Sleep(time.Millisecond) // a test has taken the descriptors
				continue
			}
			wg.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

// named runs a server that says its name and ends the connection, and counts.
func named(t testing.TB, name string) (netip.AddrPort, *atomic.Int64) {
	n := new(atomic.Int64)
	return serveTCP(t, func(c *net.TCPConn) {
		n.Add(1)
		io.WriteString(c, name)
	}), n
}

func echo(c *net.TCPConn) {
	io.Copy(c, c)
	c.CloseWrite()
}

func dialTCP(t testing.TB, vip netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp4", vip.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// ask connects and returns all that the server says.
func ask(vip netip.AddrPort) (string, error) {
	c, err := net.DialTimeout("tcp4", vip.String(), patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	return string(b), err
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
func isReset(err error) bool   { return errors.Is(err, syscall.ECONNRESET) }
