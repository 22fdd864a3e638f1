package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// introduced runs a server that greets its client by the address in the PROXY
// header, with the version, the VIP, and then sends back what comes.
func introduced(t testing.TB) netip.AddrPort {
	return serveTCP(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		h, err := proxyproto.Read(r)
		if err != nil {
			io.WriteString(c, "no header: "+err.Error()+"\n")
			return
		}
		io.WriteString(c, string('0'+rune(h.Version))+" "+h.SourceAddr.String()+" "+h.DestinationAddr.String()+"\n")
		io.Copy(c, r)
		c.CloseWrite()
	})
}

// withClientAddress is a change of a Service.
func withClientAddress(way registry.ClientAddress) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Annotations = map[string]string{registry.AnnotationClientAddress: string(way)}
	}
}

// TestProxyHeader checks that a Backend is told who its client is, before
// anything else and once, whoever speaks first and however often it was dialled
// in vain.
func TestProxyHeader(t *testing.T) { eachEngine(t, testProxyHeader) }

func testProxyHeader(t *testing.T, start starter) {
	h := start(t, Limits{})
	server := introduced(t)
	bulk := bytes.Repeat([]byte("0123456789abcdef"), 256<<10) // 4 MiB: spliced
	for _, tt := range []struct {
		name     string
		way      registry.ClientAddress
		backends []end
	}{
		{"1", registry.ProxyV1, ends(server)},
		{"2", registry.ProxyV2, ends(server)},
		{"2", registry.ProxyV2, ends(freePort(t, "127.0.0.1"), server, freePort(t, "127.0.0.1"))},
		{"2", registry.ProxyV2, ends(silent(t), server)},
	} {
		vip := freePort(t, "127.96.0.5")
		h.serveAs(vip, tcp, withClientAddress(tt.way), tt.backends...)
		for i, payload := range [][]byte{nil, []byte("hello"), bulk, nil} {
			c := dialTCP(t, vip)
			want := tt.name + " " + c.LocalAddr().String() + " " + vip.String() + "\n"
			r := bufio.NewReader(c)
			if i == 3 { // the client waits for the server to begin
				if got, err := r.ReadString('\n'); got != want || err != nil {
					t.Errorf("the server greets with %q, %v, want %q", got, err, want)
				}
				c.Close()
				continue
			}
			go func() {
				c.Write(payload)
				c.CloseWrite()
			}()
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, append([]byte(want), payload...)) {
				t.Errorf("read %d bytes, %.80q, %v; want %q and %d more", len(got), got, err, want, len(payload))
			}
		}
		stats := h.statsOf(vip)
		if stats.BytesUp != uint64(5+len(bulk)) {
			t.Errorf("counted %d bytes of clients, want %d", stats.BytesUp, 5+len(bulk))
		}
		h.remove(vip)
	}
}

// TestProxyHeaderOfALivingService switches the header on and off.
func TestProxyHeaderOfALivingService(t *testing.T) { eachEngine(t, testProxyHeaderOfALivingService) }

func testProxyHeaderOfALivingService(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	backend := serveTCP(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		if bytes.HasPrefix(b, []byte("PROXY TCP4 127.0.0.1 ")) {
			io.WriteString(c, "with a header")
		}
	})
	for _, way := range []registry.ClientAddress{"", registry.ProxyV1, ""} {
		h.serveAs(vip, tcp, withClientAddress(way), ends(backend)...)
		c := dialTCP(t, vip)
		c.CloseWrite()
		got, err := io.ReadAll(c)
		if err != nil || (string(got) == "with a header") != (way != "") {
			t.Errorf("%q: read %q, %v", way, got, err)
		}
	}
}

// TestProxyHeaderOfAGoneClient has clients that reset at once.
func TestProxyHeaderOfAGoneClient(t *testing.T) { eachEngine(t, testProxyHeaderOfAGoneClient) }

func testProxyHeaderOfAGoneClient(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	h.serveAs(vip, tcp, withClientAddress(registry.ProxyV2), ends(introduced(t))...)
	for range 50 {
		reset(dialTCP(t, vip))
	}
	c := dialTCP(t, vip)
	c.SetDeadline(time.Now().Add(patience))
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		t.Error(err)
	}
	c.Close()
	waitFor(t, "all to end", func() bool { return h.statsOf(vip).Active == 0 })
}
