package netenv

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"usher/internal/sockets"
	"usher/proxy"
)

// rolePrivate is of usher: the program gets a network of its own, and this is
// the socket of the daemon.
const rolePrivate = "USHER_NETENV_TEST_PRIVATE"

var clusterIPs = netip.MustParsePrefix("10.96.0.0/16")

func privateOf(socket string) *Private {
	return &Private{Socket: socket, Target: "/views?cidr=" + clusterIPs.String(), CIDRs: []netip.Prefix{clusterIPs}}
}

// lentTo serves a unix socket by borrow, which is what a daemon does with the
// sockets that it is lent, and returns its path.
func lentTo(t *testing.T, borrow func(r *http.Request, b *sockets.Borrower)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "usher-private") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err == nil {
		err = os.Chmod(path, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", sockets.Protocol)
		b := sockets.NewBorrower(c.(*net.UnixConn))
		defer b.Close()
		borrow(r, b)
	})}
	served := make(chan struct{})
	go func() { srv.Serve(l); close(served) }()
	t.Cleanup(func() { srv.Close(); <-served })
	return path
}

// greet listens at a ClusterIP, and answers one connection.
func greet(t *testing.T) func(*http.Request, *sockets.Borrower) {
	return func(r *http.Request, b *sockets.Borrower) {
		if ns := r.URL.Query().Get("netns"); ns == "" || ns == "0" {
			t.Errorf("netns is %q", ns)
		}
		tcp, err := proxy.ListenAddr{AddrPort: netip.MustParseAddrPort("10.96.0.10:53"), Sockets: b}.ListenTCP()
		if err != nil {
			t.Error(err)
			return
		}
		defer tcp.Close()
		if err := b.Ready(); err != nil {
			t.Error(err)
		}
		go func() { <-b.Done(); tcp.Close() }()
		c, err := tcp.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprintln(c, "hello")
		c.Close()
		<-b.Done()
	}
}

// TestPrivate checks that a program of any user sees what is listened for in a
// network of its own, and nothing else, and what it is itself.
func TestPrivate(t *testing.T) {
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			script := `read x </dev/tcp/10.96.0.10/53; echo $x
(: </dev/tcp/203.0.113.9/80) 2>&1 | grep -m1 -o 'unreachable'
head -1 /etc/resolv.conf
cat /proc/sys/net/ipv4/ip_unprivileged_port_start
exit 7`
			cmd := w.usher("bash", "-c", script)
			cmd.Env = append(cmd.Env, rolePrivate+"="+lentTo(t, greet(t)))
			out, err := cmd.CombinedOutput()
			want := "hello\nunreachable\nnameserver 10.96.0.10\n0\n"
			if string(out) != want || cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 7 {
				t.Errorf("%v, %q; want exit status 7, %q", err, out, want)
			}
		})
	}
}

// TestPrivateKeepsWhoOneIs checks that a user is the same in there, without
// privileges that it did not have.
func TestPrivateKeepsWhoOneIs(t *testing.T) {
	for _, w := range ways() {
		if w.name == "capable user" {
			continue // whose capabilities are not enough for it: they stay outside
		}
		t.Run(w.name, func(t *testing.T) {
			const script = "id -u; id -g; grep -E '^Cap(Eff|Prm|Amb)' /proc/self/status"
			cmd := w.usher("bash", "-c", script)
			cmd.Env = append(cmd.Env, rolePrivate+"="+lentTo(t, func(_ *http.Request, b *sockets.Borrower) {
				b.Ready()
				<-b.Done()
			}))
			got, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, got)
			}
			plain := w.usher("bash", "-c", script)
			want, err := plain.CombinedOutput() // in the network of the machine
			if err != nil {
				t.Fatalf("%v: %s", err, want)
			}
			if string(got) != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// TestPrivateRefused checks what is said where the daemon does not listen.
func TestPrivateRefused(t *testing.T) {
	tests := map[string]struct{ socket, want string }{
		"no daemon":         {filepath.Join(t.TempDir(), "none"), "offer the sockets of a network namespace to the daemon: dial unix"},
		"daemon that fails": {lentTo(t, func(*http.Request, *sockets.Borrower) {}), "the daemon does not listen in the network namespace (its log says why)"},
	}
	for name, tt := range tests {
		for _, w := range ways() {
			t.Run(name+"/"+w.name, func(t *testing.T) {
				cmd := w.usher("true")
				cmd.Env = append(cmd.Env, rolePrivate+"="+tt.socket)
				out, err := cmd.CombinedOutput()
				if cmd.ProcessState.ExitCode() != exitError || !strings.Contains(string(out), tt.want) || strings.Contains(string(out), "ordinary users") {
					t.Errorf("%v, %q; want exit status 1, %q, and nothing of privileges", err, out, tt.want)
				}
			})
		}
	}
}
