package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Reports takes what programs do without the proxy: whoever translates their
// connections says so. A session is one such reporter, under a name that it
// has chosen; it may lose its stream and come back.
type Reports interface {
	// Begin begins the stream of a session, and returns the number of the last
	// report of that session that was applied: 0 if it is not known. Neither of
	// what the reporter can be told waits for it.
	Begin(session string, to Reporter) (stream ReportStream, last int64, err error)
}

// A Reporter is who reports.
type Reporter interface {
	// Ask asks for a report.
	Ask(number int64)

	// Tell tells what others have open, as ReportAnswer says.
	Tell(elsewhere []ReportedLoad)
}

// A ReportStream takes the reports of a session in their order.
type ReportStream interface {
	// Apply takes a report over. An error says what is wrong with it.
	Apply(r ConnectionReport) error

	// Close ends the stream, and with it all that was open by it.
	Close()
}

// ConnectionReport is a line of a stream of reports, which are sent to
// /apis/usher.internal/v1/connections. The first line has a session alone; it is
// answered with the number of the last report that was applied, and so is each
// report, by a ReportAnswer.
type ConnectionReport struct {
	Session  string `json:"session,omitempty"`
	Sequence int64  `json:"sequence,omitempty"` // 1, 2, ... in a session
	Asked    int64  `json:"asked,omitempty"`    // the last question that this answers

	Open   []ReportedConnection `json:"open,omitempty"`   // new, or not as they were
	Closed []uint64             `json:"closed,omitempty"` // IDs
	Counts []ReportedCounts     `json:"counts,omitempty"` // since the report before

	// ByLoad, unless nil, are the Frontends of which the reporter is to be told
	// what others have open, from now on: their policy asks for that.
	ByLoad []ReportedFrontend `json:"byLoad,omitzero"`
}

// ReportAnswer is a line of the answer. One with Ask asks for a report.
type ReportAnswer struct {
	Sequence int64 `json:"sequence,omitempty"`
	Ask      int64 `json:"ask,omitempty"`

	// Elsewhere, unless nil, is what others than the reporter have open at the
	// Frontends that it has named; nothing at any other Backend.
	Elsewhere []ReportedLoad `json:"elsewhere,omitzero"`
}

// ReportedFrontend names a Frontend.
type ReportedFrontend struct {
	Address  string          `json:"address"` // with port
	Protocol corev1.Protocol `json:"protocol"`
}

// ReportedLoad is how many connections are open to a Backend of a Frontend.
type ReportedLoad struct {
	ReportedFrontend `json:",inline"`
	Backend          string `json:"backend"`
	Open             int64  `json:"open"`
}

// ReportedConnection is a connection that is open.
type ReportedConnection struct {
	ID         uint64 `json:"id"` // in its session
	Connection `json:",inline"`
}

// ReportedCounts are what has happened since the report before, at a Frontend
// or, with a Backend, at that.
type ReportedCounts struct {
	Namespace string          `json:"namespace"`
	Service   string          `json:"service"`
	Address   string          `json:"address"` // of the Frontend, with port
	Protocol  corev1.Protocol `json:"protocol"`
	Backend   string          `json:"backend,omitempty"`

	Connections uint64 `json:"connections,omitempty"` // of a Backend, those that it has answered
	BytesUp     uint64 `json:"bytesUp,omitempty"`
	BytesDown   uint64 `json:"bytesDown,omitempty"`
	DialErrors  uint64 `json:"dialErrors,omitempty"`
	Retries     uint64 `json:"retries,omitempty"`
	Unserved    uint64 `json:"unserved,omitempty"`
	Resets      uint64 `json:"resets,omitempty"`
}

const (
	// maxReport bounds a report, in bytes: it is in memory as a whole.
	maxReport = 1 << 20

	// MaxReported bounds the connections and counts in one report: more come
	// with the next one. It also bounds the Frontends by load, and the Backends of
	// which one is told: of more nobody knows.
	MaxReported = 1000
)

// report takes a stream of reports, until the reporter ends it or is gone.
func (s *Server) report(w http.ResponseWriter, r *http.Request) error {
	control := http.NewResponseController(w)
	// A stream lasts for as long as its reporter, and both speak.
	if err := errors.Join(control.EnableFullDuplex(), control.SetReadDeadline(time.Now().Add(s.limits.header))); err != nil {
		return fmt.Errorf("take reports: %w", err)
	}
	w.Header().Set("Connection", "close") // whatever comes after a stream that is refused
	ctx, cancel := s.watchContext(r.Context(), nil)
	defer cancel()
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, maxReport)
	hello, err := nextReport(lines)
	if err != nil {
		return err
	}
	if _, err := uuid.Parse(hello.Session); err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("session must be a UUID, got %q", hello.Session))
	}
	out := &reportAnswers{to: newDeadlineWriter(w, s.limits.stall), cancel: cancel,
		asks: make(chan int64, 1), loads: make(chan []ReportedLoad, 1)}
	stream, last, err := s.opts.Reports.Begin(hello.Session, out)
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("take reports: %w", err)
	}
	noted(w).object = hello.Session
	w.Header().Set("Content-Type", mediaJSON)
	w.WriteHeader(http.StatusOK)
	stop := context.AfterFunc(ctx, func() { _ = control.SetReadDeadline(time.Now()) })
	defer stop()
	if !out.send(ReportAnswer{Sequence: last}) { // before any question
		return nil
	}
	var asking sync.WaitGroup
	asking.Go(func() { out.run(ctx) })
	defer asking.Wait()
	defer cancel()
	for {
		report, err := nextReport(lines)
		if err != nil {
			break
		}
		if err := stream.Apply(report); err != nil {
			s.log.Warn("report refused", "session", hello.Session, "err", err)
			break
		}
		if !out.send(ReportAnswer{Sequence: report.Sequence}) {
			break
		}
	}
	return nil
}

// nextReport reads a line. The error is the answer, while there is none yet.
func nextReport(lines *bufio.Scanner) (r ConnectionReport, err error) {
	if !lines.Scan() {
		if err := lines.Err(); err != nil {
			return r, apierrors.NewBadRequest(fmt.Sprintf("read a report: %v", err))
		}
		return r, apierrors.NewBadRequest("read a report: " + io.EOF.Error())
	}
	if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
		return r, apierrors.NewBadRequest(fmt.Sprintf("decode a report: %v", err))
	}
	return r, nil
}

// reportAnswers writes to a reporter. One that does not read is given up.
type reportAnswers struct {
	cancel context.CancelFunc
	asks   chan int64          // the last question, if that has not been put yet
	loads  chan []ReportedLoad // and what was told last

	mu sync.Mutex // guards the following
	to deadlineWriter
}

func (a *reportAnswers) send(v ReportAnswer) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := json.NewEncoder(a.to).Encode(v)
	if err == nil {
		err = a.to.flush()
	}
	if err != nil {
		a.cancel()
	}
	return err == nil
}

// Ask implements Reporter.
func (a *reportAnswers) Ask(number int64) { leave(a.asks, number) }

// Tell implements Reporter.
func (a *reportAnswers) Tell(elsewhere []ReportedLoad) { leave(a.loads, elsewhere) }

// leave leaves v in c, in the place of one that waits there.
func leave[T any](c chan T, v T) {
	for {
		select {
		case c <- v:
			return
		default:
		}
		select {
		case <-c:
		default:
		}
	}
}

// run says what was left until ctx is done.
func (a *reportAnswers) run(ctx context.Context) {
	for {
		select {
		case n := <-a.asks:
			a.send(ReportAnswer{Ask: n})
		case loads := <-a.loads:
			a.send(ReportAnswer{Elsewhere: loads})
		case <-ctx.Done():
			return
		}
	}
}
