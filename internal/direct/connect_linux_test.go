//go:build amd64 || arm64

package direct

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// silentServer listens without backlog to spare: a connection to it neither
// succeeds nor fails. Nothing is said, so that no event depends on time.
func silentServer(t *testing.T, backlog int) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint("127.0.0.1:", sa.(*unix.SockaddrInet4).Port)
}

// blackHole returns an address at which connections stay in the middle.
func blackHole(t *testing.T) string {
	t.Helper()
	address := silentServer(t, 0)
	to := netip.MustParseAddrPort(address)
	for range 4 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		_ = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	}
	return address
}

// TestConnectIsTheKernels lets a program connect to a Service, and to its
// Backend without usher: it must see the same.
func TestConnectIsTheKernels(t *testing.T) {
	good, bad, hole := silentServer(t, 4096), dead(t), blackHole(t)
	w := newWorld(t, service("good", "10.96.1.1", 80, "TCP", good)+
		service("bad", "10.96.1.2", 80, "TCP", bad)+
		service("hole", "10.96.1.3", 80, "TCP", hole)+
		service("half", "10.96.1.4", 80, "TCP", bad, good)+
		service("worse", "10.96.1.5", 80, "TCP", bad, dead(t)))
	settled := []string{
		"block", "block+again", "block+bound+again", "block+mapped+again", "block+timeout", "block+mptcp+again",
		"block+before", "block+after+error", "block+disconnect", "block+fastopen",
		"nonblock+after+error+again", "nonblock+before+error+again", "nonblock+after+again", "nonblock+before+again",
		"nonblock+bound+before+error+again", "nonblock+mapped+before+error+again", "nonblock+mptcp+after+error+again",
		"nonblock+after+error+disconnect",
	}
	open := []string{"nonblock+before+silent+again", "nonblock+mapped+after+silent+again", "block+timeout+again"}
	tests := []struct {
		name, service, backend string
		ways                   []string
	}{
		{"accepts", "10.96.1.1:80", good, settled},
		{"refuses", "10.96.1.2:80", bad, settled},
		{"is silent", "10.96.1.3:80", hole, open},
		{"first refuses", "10.96.1.4:80", good, settled},
		{"all refuse", "10.96.1.5:80", bad, settled},
		{"is no Service's", good, good, settled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := output(t, plain("connects", append([]string{tt.backend}, tt.ways...)...))
			got := output(t, w.client("connects", append([]string{tt.service}, tt.ways...)...))
			if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("(-plain +translated):\n%s", diff)
			}
		})
	}
}

// TestConnectNowhere checks what nobody serves: without Backends there is no
// connection that could fail later.
func TestConnectNowhere(t *testing.T) {
	w := newWorld(t, service("empty", "10.96.1.1", 80, "TCP"))
	for _, to := range []string{"10.96.1.1:80", "10.96.1.1:81", "10.96.77.7:80"} {
		got := output(t, w.client("connects", to, "block", "nonblock", "nonblock+mapped", "nonblock+fastopen"))
		want := "block: connect ECONNREFUSED, nonblock false\n" +
			"nonblock: connect ECONNREFUSED, nonblock true\n" +
			"nonblock+mapped: connect ECONNREFUSED, nonblock true\n" +
			"nonblock+fastopen: connect ECONNREFUSED, nonblock true\n"
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", to, diff)
		}
	}
}
