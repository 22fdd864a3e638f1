package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"usher/registry"
)

// An eventStream writes watch events, one JSON document a line. Its first
// error sticks, and is returned by flush.
type eventStream struct {
	to       deadlineWriter
	buf      *bufio.Writer // into to
	enc      *json.Encoder
	err      error
	printing *printing // not nil: events carry Tables
	headed   bool      // the columns have been sent; they are not repeated
}

// newEventStream begins the answer of a watch. A write that makes no progress
// for stallLimit ends it.
func newEventStream(w http.ResponseWriter, stallLimit time.Duration) *eventStream {
	to := newDeadlineWriter(w, stallLimit)
	buf := bufio.NewWriterSize(to, 32<<10)
	w.Header().Set("Content-Type", mediaJSON)
	w.WriteHeader(http.StatusOK)
	return &eventStream{to: to, buf: buf, enc: json.NewEncoder(buf)}
}

// send writes one event about obj. In a Table a bookmark has a row too, as
// Kubernetes gives it: the object in that has what the bookmark says.
func (s *eventStream) send(typ watch.EventType, obj registry.Object) {
	if s.printing == nil {
		s.write(typ, obj)
		return
	}
	table := s.printing.table(registry.KindOf(obj), obj)
	table.ResourceVersion = obj.GetResourceVersion()
	if s.headed {
		table.ColumnDefinitions = nil
	}
	s.headed = true
	s.write(typ, table)
}

// sendError writes an ERROR event, after which a watch ends.
func (s *eventStream) sendError(err error) { s.write(watch.Error, statusOf(err)) }

func (s *eventStream) write(typ watch.EventType, object any) {
	if s.err != nil {
		return
	}
	event := struct {
		Type   watch.EventType `json:"type"`
		Object any             `json:"object"`
	}{typ, object}
	if err := s.enc.Encode(event); err != nil {
		s.err = fmt.Errorf("write an event: %w", err)
	}
}

// flush sends what has been written to the client.
func (s *eventStream) flush() error {
	if s.err == nil {
		s.err = s.buf.Flush()
	}
	if s.err == nil {
		s.err = s.to.flush()
	}
	return s.err
}

// A deadlineWriter gives each write a deadline of its own, in the place of the
// server's for whole answers.
type deadlineWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
}

func newDeadlineWriter(w http.ResponseWriter, limit time.Duration) deadlineWriter {
	return deadlineWriter{w, http.NewResponseController(w), limit}
}

func (d deadlineWriter) Write(p []byte) (int, error) {
	if err := d.begin(); err != nil {
		return 0, err
	}
	return d.w.Write(p)
}

// begin sets the deadline of what is written next.
func (d deadlineWriter) begin() error { return d.control.SetWriteDeadline(time.Now().Add(d.limit)) }

// pause takes the deadline away until the next write: one that passes while
// nothing is written would end a stream of HTTP/2.
func (d deadlineWriter) pause() error { return d.control.SetWriteDeadline(time.Time{}) }

// flush sends what has been written to the client, and leaves no deadline
// behind.
func (d deadlineWriter) flush() error {
	if err := d.control.Flush(); err != nil {
		return err
	}
	return d.pause()
}
