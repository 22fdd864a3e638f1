//go:build amd64 || arm64

package direct

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"usher/internal/api"
	"usher/internal/sockdiag"
)

// reports takes what an usher reports, as a daemon does.
type reports struct {
	mu     sync.Mutex
	stream *reportStream // the last
	last   map[string]int64
	counts map[string]api.ReportedCounts // by Service and Backend

	elsewhere []api.ReportedLoad // what others have open
}

type reportStream struct {
	*reports
	session string
	api.Reporter
	asked  int64
	open   map[uint64]api.Connection
	closed bool
	lose   bool // it breaks before the next answer
	refuse bool // and before the next report is taken
}

func newReports() *reports {
	return &reports{last: make(map[string]int64), counts: make(map[string]api.ReportedCounts), elsewhere: []api.ReportedLoad{}}
}

func (r *reports) Begin(session string, to api.Reporter) (api.ReportStream, int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stream = &reportStream{reports: r, session: session, Reporter: to, open: make(map[uint64]api.Connection)}
	return r.stream, r.last[session], nil
}

func (s *reportStream) Apply(report api.ConnectionReport) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse {
		return errors.New("lost before it was taken")
	}
	if report.Sequence != s.last[s.session]+1 {
		return fmt.Errorf("report %d after %d", report.Sequence, s.last[s.session])
	}
	s.last[s.session] = report.Sequence
	if report.ByLoad != nil {
		s.Tell(s.elsewhere)
	}
	for _, c := range report.Open {
		s.open[c.ID] = c.Connection
	}
	for _, id := range report.Closed {
		delete(s.open, id)
	}
	for _, n := range report.Counts {
		key := strings.TrimSpace(n.Service + " " + n.Backend)
		sum := s.counts[key]
		sum.Connections += n.Connections
		sum.BytesUp += n.BytesUp
		sum.BytesDown += n.BytesDown
		sum.DialErrors += n.DialErrors
		sum.Retries += n.Retries
		sum.Unserved += n.Unserved
		sum.Resets += n.Resets
		s.counts[key] = sum
	}
	s.asked = max(s.asked, report.Asked)
	if s.lose {
		return errors.New("lost before it was answered")
	}
	return nil
}

func (s *reportStream) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// now returns what is open, as the usher of a test says when it is asked.
func (r *reports) now(t testing.TB) (open []api.Connection) {
	t.Helper()
	var question int64
	var of *reportStream // who was asked it
	until(t, "an answer to the daemon", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		s := r.stream
		if s == nil || s.closed {
			return false
		}
		if s != of {
			of, question = s, s.asked+1
			s.Ask(question)
		}
		if s.asked < question {
			return false
		}
		for _, c := range s.open {
			open = append(open, c)
		}
		return true
	})
	return open
}

// counted returns the counters of a Service, or of a Backend of it.
func (r *reports) counted(service, backend string) api.ReportedCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[strings.TrimSpace(service+" "+backend)]
}

// needsSockdiag skips where the kernel does not tell of ends.
func needsSockdiag(t testing.TB) {
	t.Helper()
	w, err := sockdiag.Watch()
	if err != nil {
		t.Skipf("SKIP: %v", err)
	}
	w.Close()
}

// A meter is a server that reads as many bytes as its client says and sends as
// many as it wants, and counts both.
type meter struct {
	net.Listener
	conns, up, down atomic.Uint64
	wg              sync.WaitGroup
}

func newMeter(t testing.TB, address string) *meter {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := &meter{Listener: l}
	c.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.conns.Add(1)
			c.wg.Go(func() { c.serve(conn.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { l.Close(); c.wg.Wait() })
	return c
}

// serve answers "UP DOWN WAY\n" and UP bytes with DOWN bytes.
func (c *meter) serve(conn *net.TCPConn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	line, err := in.ReadString('\n')
	var up, down int64
	var way string
	if _, err2 := fmt.Sscan(line, &up, &down, &way); err != nil || err2 != nil {
		return
	}
	n, _ := io.CopyN(io.Discard, in, up)
	c.up.Add(uint64(len(line)) + uint64(n))
	n, _ = io.CopyN(conn, zeroes{}, down)
	c.down.Add(uint64(n))
	switch way {
	case "server", "many-server":
		return
	case "half":
		_ = conn.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, in)
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func init() { clients["talk"] = talkMain }

// talkMain opens connections to a meter, one after the other, that end in one
// of some ways: talk ADDRESS COUNT WAY...
func talkMain(args []string) {
	count, _ := strconv.Atoi(args[1])
	ways := args[2:]
	for i := range count {
		if err := talk(args[0], i*7%5000, i*11%9000, ways[i/2%len(ways)]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	fmt.Println(count)
}

func talk(address string, up, down int, way string) error {
	var d net.Dialer
	d.SetMultipathTCP(strings.HasPrefix(way, "many"))
	conn, err := d.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%d %d %s\n", up, down, way)
	if _, err := io.CopyN(conn, zeroes{}, int64(up)); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, conn, int64(down)); err != nil {
		return err
	}
	switch way {
	case "server", "many-server", "half":
		_, err = io.Copy(io.Discard, conn)
	case "reset":
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
	return err
}
