//go:build amd64 || arm64

package direct

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func init() { clients["resolve"] = resolveMain }

// resolveMain prints the addresses of names, a line each: resolve cgo NAME...,
// or with a nameserver that is asked over a network: resolve udp6 SERVER NAME...
func resolveMain(args []string) {
	resolver := &net.Resolver{PreferGo: args[0] != "cgo"}
	if network := args[0]; network != "go" && network != "cgo" {
		server := args[1]
		args = args[1:]
		resolver.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server)
		}
	}
	for _, name := range args[1:] {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		addrs, err := resolver.LookupHost(ctx, name)
		cancel()
		if dnsErr, ok := err.(*net.DNSError); ok && dnsErr.IsNotFound {
			err = fmt.Errorf("not found")
		}
		fmt.Println(name, addrs, err)
	}
}

// nameserver gives the world a host with an upstream, which knows one name.
func (w *world) nameserver(t *testing.T) {
	t.Helper()
	const address = "127.0.0.53:53"
	pc, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(rw dns.ResponseWriter, req *dns.Msg) {
		m := new(dns.Msg).SetReply(req)
		switch q := req.Question[0]; {
		case q.Name != "www.example.com.":
			m.Rcode = dns.RcodeNameError
		case q.Qtype == dns.TypeA:
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 80)}}
		}
		_ = rw.WriteMsg(m)
	})}
	started, ended := make(chan struct{}), make(chan error, 1)
	server.NotifyStartedFunc = func() { close(started) }
	go func() { ended <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = server.Shutdown(); <-ended })
	w.resolv = filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(w.resolv, []byte("nameserver 127.0.0.53\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestNames checks that names resolve as in a Pod, whatever asks, and all others
// as on the host; also when the daemon has gone.
func TestNames(t *testing.T) {
	w := newWorld(t, service("web", "10.96.0.7", 80, "TCP", dead(t)))
	w.nameserver(t)
	const names = "web|[10.96.0.7] <nil>\n" +
		"web.default|[10.96.0.7] <nil>\n" +
		"web.default.svc|[10.96.0.7] <nil>\n" +
		"web.default.svc.cluster.local|[10.96.0.7] <nil>\n" +
		"nope.default|[] not found\n" +
		"www.example.com|[192.0.2.80] <nil>\n" +
		"nope.example.com|[] not found\n"
	var asked []string
	for line := range strings.Lines(names) {
		name, _, _ := strings.Cut(line, "|")
		asked = append(asked, name)
	}
	want := strings.ReplaceAll(names, "|", " ")
	for _, resolver := range []string{"go", "cgo", "udp 192.0.2.53:53", "tcp 192.0.2.53:53", "udp6 [2001:db8::53]:53", "tcp6 [2001:db8::53]:53"} {
		t.Run(resolver, func(t *testing.T) {
			cmd := w.client("resolve", append(strings.Fields(resolver), asked...)...)
			if resolver == "cgo" {
				if !hasCgo {
					t.Skip("SKIP: this test was built without cgo (CGO_ENABLED=1)")
				}
				cmd.Env = append(cmd.Env, "GODEBUG=netdns=cgo,asyncpreemptoff=1")
			}
			if got := output(t, cmd); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}
