package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/internal/api"
	"usher/registry"
)

// fakeReports is a daemon that takes reports of a certain session.
type fakeReports struct {
	to     chan api.Reporter
	taken  chan api.ConnectionReport
	closed chan struct{}
}

func (f *fakeReports) Begin(_ string, to api.Reporter) (api.ReportStream, int64, error) {
	f.to <- to
	return f, 6, nil
}

func (f *fakeReports) Apply(r api.ConnectionReport) error {
	f.taken <- r
	if r.Sequence == 13 {
		return errors.New("no luck")
	}
	return nil
}

func (f *fakeReports) Close() { close(f.closed) }

const someSession = "6b1ea5ee-90a3-4f3c-8f0f-1d5a1c3f0f5d"

// TestReport checks that reports are acknowledged one by one, that a daemon can
// ask for one at any time, and that a stream ends with the client, the daemon or
// a report that makes no sense.
func TestReport(t *testing.T) {
	for _, end := range []string{"client", "daemon", "report"} {
		t.Run(end, func(t *testing.T) {
			f := &fakeReports{make(chan api.Reporter, 1), make(chan api.ConnectionReport, 1), make(chan struct{})}
			daemon := api.New(api.Options{Store: registry.NewStore(), Reports: f})
			server := httptest.NewServer(daemon.Handler())
			defer server.Close()
			c, err := New(server.URL, "")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := c.Report(t.Context(), someSession)
			if err != nil {
				t.Fatal(err)
			}
			var once sync.Once
			hangUp := func() { once.Do(s.Close) }
			defer hangUp()
			timer := time.AfterFunc(20*time.Second, func() {
				t.Error("it takes too long")
				hangUp()
			})
			defer timer.Stop()
			next := func(want api.ReportAnswer) {
				t.Helper()
				got, err := s.Next()
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Fatalf("%v (-want +got):\n%s", err, diff)
				}
			}
			next(api.ReportAnswer{Sequence: 6})
			to := <-f.to
			to.Ask(3)
			next(api.ReportAnswer{Ask: 3})
			for _, loads := range [][]api.ReportedLoad{{{Backend: "10.1.0.1:8080", Open: 2}}, {}} {
				to.Tell(loads)
				next(api.ReportAnswer{Elsewhere: loads})
			}
			want := api.ConnectionReport{
				Sequence: 7, Asked: 3, Closed: []uint64{1 << 63}, ByLoad: []api.ReportedFrontend{}, Counts: []api.ReportedCounts{{Address: "10.96.0.7:80", BytesUp: 5}},
				Open: []api.ReportedConnection{{ID: 9, Connection: api.Connection{VIP: "10.96.0.7:80", PID: 3}}},
			}
			if err := s.Send(want); err != nil {
				t.Fatal(err)
			}
			next(api.ReportAnswer{Sequence: 7})
			if diff := cmp.Diff(want, <-f.taken); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			switch end {
			case "client":
				hangUp()
			case "daemon":
				daemon.Close()
			case "report":
				_ = s.Send(api.ConnectionReport{Sequence: 13})
				<-f.taken
			}
			<-f.closed
			if _, err := s.Next(); err == nil {
				t.Error("an answer after the end")
			}
		})
	}
}

// TestReportRefused checks that who refuses a stream does so at once.
func TestReportRefused(t *testing.T) {
	f := &fakeReports{make(chan api.Reporter, 1), make(chan api.ConnectionReport, 1), make(chan struct{})}
	for _, tt := range []struct {
		options api.Options
		session string
		want    string
	}{
		{api.Options{Reports: f}, "somebody", `session must be a UUID, got "somebody"`},
		{api.Options{}, someSession, "could not find the requested resource"},
	} {
		tt.options.Store = registry.NewStore()
		server := httptest.NewServer(api.New(tt.options).Handler())
		c, err := New(server.URL, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Report(t.Context(), tt.session); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
		c.Close()
		server.Close()
	}
}

// TestReportNeedsAdmin checks that who may only read may not report.
func TestReportNeedsAdmin(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("Expect") != "100-continue" {
			t.Errorf("%s %v", r.Method, r.Header)
		}
		http.Error(w, "forbidden", http.StatusForbidden)
	})
	if _, err := c.Report(t.Context(), someSession); err == nil || !strings.Contains(err.Error(), "403") {
		t.Error(err)
	}
}

// TestReportIsRequest checks that what is so of every request is so of a stream.
func TestReportIsRequest(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, want := range map[string]string{
			"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "me", "Authorization": "Bearer secret", "Expect": "100-continue",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		w.Header().Set("Warning", `299 - "mind the gap"`)
		control := http.NewResponseController(w)
		if err := errors.Join(control.EnableFullDuplex(), json.NewDecoder(r.Body).Decode(new(api.ConnectionReport)), control.Flush()); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	c := newClient(t, server.URL, "secret")
	var told []string
	c.Program, c.Warn = "me", func(text string) { told = append(told, text) }
	s, err := c.Report(t.Context(), someSession)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if diff := cmp.Diff([]string{"mind the gap"}, told); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestReportGivenUp checks that a stream that is not needed any more is not
// waited for, if the daemon has not answered yet.
func TestReportGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if _, err := r.Body.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
		cancel()
		_, _ = io.Copy(io.Discard, r.Body) // until the connection is closed
	})
	done := make(chan error, 1)
	go func() {
		_, err := c.Report(ctx, someSession)
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it waits")
	}
}
