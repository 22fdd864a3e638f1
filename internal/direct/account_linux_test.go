//go:build amd64 || arm64

package direct

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"usher/internal/api"
)

// TestCounters checks that what is reported is what the Backends have counted, to
// the byte, however the connections have ended.
func TestCounters(t *testing.T) {
	needsSockdiag(t)
	count := 1000
	if testing.Short() {
		count = 200
	}
	a, b := newMeter(t, "127.0.0.1:0"), newMeter(t, "127.0.0.2:0")
	w := newWorld(t, service("web", "10.96.0.7", 80, "TCP", a.Addr().String(), b.Addr().String()))
	if got := output(t, w.client("talk", "10.96.0.7:80", fmt.Sprint(count), "client", "server", "half", "reset")); got != fmt.Sprintf("%d\n", count) {
		t.Fatal(got)
	}
	var whole api.ReportedCounts
	for _, c := range []*meter{a, b} {
		want := api.ReportedCounts{Connections: c.conns.Load(), BytesUp: c.up.Load(), BytesDown: c.down.Load(), Resets: uint64(count / 8)}
		if diff := cmp.Diff(want, w.reports.counted("web", c.Addr().String())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.Addr(), diff)
		}
		whole.Connections += want.Connections
		whole.BytesUp += want.BytesUp
		whole.BytesDown += want.BytesDown
		whole.Resets += want.Resets
	}
	if diff := cmp.Diff(whole, w.reports.counted("web", "")); diff != "" {
		t.Errorf("the Service (-want +got):\n%s", diff)
	}
}

// TestMultipath checks that Multipath TCP is counted as well, where the kernel
// speaks of another socket than the program's. An end of its own may be in the
// bytes of each connection.
func TestMultipath(t *testing.T) {
	needsSockdiag(t)
	if on, _ := os.ReadFile("/proc/sys/net/mptcp/enabled"); strings.TrimSpace(string(on)) != "1" {
		t.Skip("SKIP: no Multipath TCP here")
	}
	a := newMeter(t, "127.0.0.1:0")
	w := newWorld(t, service("web", "10.96.0.7", 80, "TCP", a.Addr().String()))
	output(t, w.client("talk", "10.96.0.7:80", "20", "many", "many-server"))
	got := w.reports.counted("web", a.Addr().String())
	if up, down := got.BytesUp-a.up.Load(), got.BytesDown-a.down.Load(); got.Connections != 20 || up > 20 || down > 20 {
		t.Errorf("%+v, with %d bytes up and %d down", got, a.up.Load(), a.down.Load())
	}
}

func init() { clients["keep"] = keepMain }

// keepMain does what it is told, a line each: "ADDRESS" opens a connection, reads
// a line from it and prints that, "look" says whether the one that was opened
// first is there yet, "close" closes it, and "close N" the one after N others.
func keepMain([]string) {
	var open []net.Conn
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if text, ok := strings.CutPrefix(in.Text(), "close"); ok {
			i, _ := strconv.Atoi(strings.TrimSpace(text))
			open[i].Close()
			open = slices.Delete(open, i, i+1)
			fmt.Println("closed")
			continue
		}
		if in.Text() == "look" {
			fmt.Println(lookAt(open[0]))
			continue
		}
		conn, err := net.Dial("tcp", in.Text())
		if err != nil {
			fmt.Println(short(err))
			continue
		}
		line, _ := bufio.NewReader(conn).ReadString('\n')
		fmt.Print(line)
		open = append(open, conn)
	}
}

func lookAt(conn net.Conn) string {
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, err := conn.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "here"
	}
	if errors.Is(err, io.EOF) {
		return "EOF"
	}
	return short(err)
}

// keep starts a keepMain under usher.
func keep(t *testing.T, w *world) (cmd *exec.Cmd, do func(string) string) {
	cmd = w.client("keep")
	say, hear := interactive(t, cmd)
	return cmd, func(line string) string {
		say(line)
		return hear()
	}
}

// TestConnections checks what the daemon is told of a connection that is open.
func TestConnections(t *testing.T) {
	needsSockdiag(t)
	a := backend(t, "a", "127.0.0.1:0")
	w := newWorld(t, service("web", "10.96.0.7", 80, "TCP", a))
	cmd, do := keep(t, w)
	do("10.96.0.7:80")
	open := w.reports.now(t)
	if len(open) != 1 {
		t.Fatalf("%d connections are open: %+v", len(open), open)
	}
	got := open[0]
	if got.Client == "" || got.RTT == nil || got.RTT.Duration <= 0 || got.StartTime.IsZero() || got.PID == 0 || got.PID == cmd.Process.Pid {
		t.Errorf("%+v", got)
	}
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", got.PID))
	want := api.Connection{
		Namespace: "default", Service: "web", Protocol: "TCP", VIP: "10.96.0.7:80", Backend: a, BytesDown: 2, State: "Established", Path: "direct",
		Client: got.Client, RTT: got.RTT, StartTime: got.StartTime, PID: got.PID, Command: strings.TrimSpace(string(name)),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	do("close")
	until(t, "the end is reported", func() bool { return len(w.reports.now(t)) == 0 })
}

// TestLeastConnections checks that a new connection goes to the Backend that has
// fewer of the program's.
func TestLeastConnections(t *testing.T) {
	needsSockdiag(t)
	a, b := backend(t, "a", "127.0.0.1:0"), backend(t, "b", "127.0.0.2:0")
	w := newWorld(t, strings.Replace(service("web", "10.96.0.7", 80, "TCP", a, b), `"namespace":"default"}`,
		`"namespace":"default","annotations":{"usher.internal/balancer":"least-connections"}}`, 1))
	_, do := keep(t, w)
	// Two at each; then both of one of them end, and two more have to go there.
	at := make(map[string][]int)
	for i := range 4 {
		name := do("10.96.0.7:80")
		at[name] = append(at[name], i)
	}
	if len(at["a"]) != 2 || len(at["b"]) != 2 {
		t.Fatalf("four connections: %v", at)
	}
	do(fmt.Sprint("close ", at["a"][1]))
	do(fmt.Sprint("close ", at["a"][0]))
	until(t, "the ends are known", func() bool { return len(w.reports.now(t)) == 2 })
	for range 2 {
		if got := do("10.96.0.7:80"); got != "a" {
			t.Errorf("a connection at %s, which has two", got)
		}
	}
}

// TestReportedAnew checks that a daemon which is started again is told of what
// is open, and of what it has not counted, and that no report counts twice that
// was taken and not acknowledged.
func TestReportedAnew(t *testing.T) {
	needsSockdiag(t)
	a := backend(t, "a", "127.0.0.1:0")
	w := newWorld(t, service("web", "10.96.0.7", 80, "TCP", a))
	path := strings.TrimPrefix(w.server, "unix:")
	_, do := keep(t, w)
	do("10.96.0.7:80")
	if open := w.reports.now(t); len(open) != 1 {
		t.Fatalf("%+v", open)
	}
	// lose has the stream break at the report of a new connection.
	lose := func(how func(*reportStream)) {
		t.Helper()
		w.reports.mu.Lock()
		stream := w.reports.stream
		how(stream)
		w.reports.mu.Unlock()
		do("10.96.0.7:80")
		stream.Ask(1000)
		until(t, "the stream is lost", func() bool {
			w.reports.mu.Lock()
			defer w.reports.mu.Unlock()
			return stream.closed
		})
	}
	lose(func(s *reportStream) { s.lose = true })
	if open := w.reports.now(t); len(open) != 2 {
		t.Errorf("a report was taken and not acknowledged: %+v", open)
	}
	if got := w.reports.counted("web", ""); got.Connections != 2 || got.BytesDown != 4 {
		t.Errorf("a report was taken and not acknowledged: %+v", got)
	}
	lose(func(s *reportStream) { s.refuse = true })
	if open := w.reports.now(t); len(open) != 3 {
		t.Errorf("a report was not taken: %+v", open)
	}
	if got := w.reports.counted("web", ""); got.Connections != 3 || got.BytesDown != 6 {
		t.Errorf("a report was not taken: %+v", got)
	}

	w.die()
	do("10.96.0.7:80")
	w.reports = newReports()
	w.live(t, path)
	if open := w.reports.now(t); len(open) != 4 {
		t.Errorf("the new daemon: %+v", open)
	}
	if got := w.reports.counted("web", a); got.Connections != 1 || got.BytesDown != 2 {
		t.Errorf("the new daemon: %+v", got)
	}
}

// TestDialErrors checks that a Backend that refuses is counted, and tried last
// after three times.
func TestDialErrors(t *testing.T) {
	needsSockdiag(t)
	a, no := backend(t, "a", "127.0.0.1:0"), dead(t)
	w := newWorld(t, service("half", "10.96.0.7", 80, "TCP", no, a)+service("none", "10.96.0.8", 80, "TCP", no))
	if got := output(t, w.client("ask", "10", "10.96.0.7:80")); got != strings.Repeat("a\n", 10) {
		t.Error(got)
	}
	if got := output(t, w.client("ask", "1", "10.96.0.8:80")); got != "connection refused\n" {
		t.Error(got)
	}
	for _, tt := range []struct {
		service, backend string
		want             api.ReportedCounts
	}{
		{"half", no, api.ReportedCounts{DialErrors: 3}},
		{"half", a, api.ReportedCounts{Connections: 10, Retries: 3, BytesDown: 20}},
		{"half", "", api.ReportedCounts{Connections: 10, DialErrors: 3, Retries: 3, BytesDown: 20}},
		{"none", no, api.ReportedCounts{DialErrors: 1}},
		{"none", "", api.ReportedCounts{Connections: 1, DialErrors: 1, Unserved: 1}},
	} {
		if diff := cmp.Diff(tt.want, w.reports.counted(tt.service, tt.backend)); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", tt.service, tt.backend, diff)
		}
	}
}

// TestOverrun checks that the end of a connection is found that the kernel had no
// room to tell of.
func TestOverrun(t *testing.T) {
	needsSockdiag(t)
	a := backend(t, "a", "127.0.0.1:0")
	w := newWorld(t, service("web", "10.96.0.7", 80, "TCP", a))
	cmd, do := keep(t, w)
	do("10.96.0.7:80")
	do("10.96.0.7:80")
	if open := w.reports.now(t); len(open) != 2 {
		t.Fatalf("%+v", open)
	}
	dropped := func() bool {
		table, err := os.ReadFile("/proc/net/netlink")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(table)) {
			// Number, protocol, port, groups, memory, memory, dump, locks, drops.
			if f := strings.Fields(line); len(f) > 8 && f[1] == "4" && f[3] != "00000000" && f[8] != "0" {
				return true
			}
		}
		return false
	}
	_ = cmd.Process.Signal(unix.SIGSTOP)
	defer func() { _ = cmd.Process.Signal(unix.SIGCONT) }()
	for i := 0; !dropped(); i++ {
		if i == 100 {
			t.Skip("SKIP: the kernel has room for too many")
		}
		for range 500 {
			conn, err := net.Dial("tcp", a)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	}
	do("close")
	_ = cmd.Process.Signal(unix.SIGCONT)
	until(t, "the end is found", func() bool { return len(w.reports.now(t)) == 1 })
	if open := w.reports.now(t); len(open) != 1 {
		t.Errorf("%+v", open)
	}
}
