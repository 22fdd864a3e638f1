package api

import (
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"usher/registry"
)

// noReports is a daemon that no session gets as far as.
type noReports struct{ *testing.T }

func (t noReports) Begin(string, Reporter) (ReportStream, int64, error) {
	t.Error("a session has begun")
	return nil, 0, io.ErrUnexpectedEOF
}

// TestReportHello checks that a stream is refused that does not begin with a
// session, or does not begin in time.
func TestReportHello(t *testing.T) {
	for _, tt := range []struct{ body, want string }{
		{"", "i/o timeout"},
		{"hello\n", "decode a report"},
		{"{}\n", `session must be a UUID, got \"\"`},
		{strings.Repeat("x", maxReport+1), "token too long"},
	} {
		s := New(Options{Store: registry.NewStore(), Reports: noReports{t}})
		s.limits.header = 200 * time.Millisecond
		server := httptest.NewServer(s.Handler())
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(c, "POST /apis/usher.internal/v1/connections HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
		if tt.body != "" {
			fmt.Fprintf(c, "%x\r\n%s\r\n", len(tt.body), tt.body)
		}
		answer, _ := io.ReadAll(c)
		if !strings.Contains(string(answer), "400 Bad Request") || !strings.Contains(string(answer), tt.want) {
			t.Errorf("%.20q: %s", tt.body, answer)
		}
		c.Close()
		server.Close()
	}
}
