package agent

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"time"

	"usher/internal/podlog"
)

// maxLine bounds what is kept of a line whose end has not come yet, in bytes.
// A longer one is written in pieces.
const maxLine = 64 << 10

// Whoever should read may not: a pager waits for its user, Ctrl-S stops a
// terminal. Nothing waits for that for long.
const (
	// outputDelay is how long the output of a dead process may be silent until
	// it is at its end: something that left the process group may hold the other
	// end for ever. Once a process is to stop it is also all the time that there
	// is for the output.
	outputDelay = time.Second

	// outputPatience is the time for the output of a process that ended by
	// itself.
	outputPatience = 10 * time.Second

	// restSize is what is read of the output of a dead process: as much as a
	// pipe holds.
	restSize = 64 << 10
)

// An output passes on what a process writes.
type output struct {
	w io.Writer
	r *os.File // of the pipe that the process has the other end of
}

// newOutput returns an output to w, and the file that the process is to have.
// The caller must Close the latter.
func newOutput(w io.Writer) (*output, *os.File, error) {
	r, other, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("open a pipe: %w", err)
	}
	return &output{w: w, r: r}, other, nil
}

// pass copies until the end, or until the process is dead and the rest has
// been read.
func (o *output) pass(dead <-chan struct{}) {
	defer o.r.Close() // the process need not write what nobody can have
	if w, ok := o.w.(interface{ flush() error }); ok {
		defer w.flush() // a reader that has gone is not the agent's to report
	}
	buf := make([]byte, 32<<10)
	for rest := restSize; rest > 0; {
		ended := false
		select {
		case <-dead:
			ended = true
			o.hurry()
		default:
		}
		n, err := o.r.Read(buf)
		if n > 0 {
			if _, err := o.w.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
		if ended {
			rest -= n
		}
	}
}

// hurry gives the next piece of a dead process's output its time to come.
func (o *output) hurry() { _ = o.r.SetReadDeadline(time.Now().Add(outputDelay)) }

// A loggedWriter keeps what it passes on. What is not read is kept all the
// same.
type loggedWriter struct {
	io.Writer

	log *podlog.Stream
}

func (l *loggedWriter) Write(p []byte) (int, error) {
	l.log.Write(p)
	return l.Writer.Write(p)
}

func (l *loggedWriter) flush() error {
	l.log.Flush()
	if w, ok := l.Writer.(*lineWriter); ok {
		return w.flush()
	}
	return nil
}

// A lineWriter passes on whole lines, each behind a prefix and in one Write. It
// has one writer.
type lineWriter struct {
	w      io.Writer
	prefix string
	line   []byte // the prefix and the beginning of a line; empty between lines
}

// Write takes the next bytes of the stream.
func (l *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(l.line) == 0 {
			l.line = append(l.line, l.prefix...)
		}
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			l.line = append(l.line, p...)
			p = nil
			if len(l.line) < maxLine {
				break
			}
		} else {
			l.line = append(l.line, p[:end]...)
			p = p[end+1:]
		}
		if err := l.flush(); err != nil {
			return n - len(p), err
		}
	}
	return n, nil
}

// flush ends the line that has begun, if one has.
func (l *lineWriter) flush() error {
	if len(l.line) == 0 {
		return nil
	}
	l.line = append(l.line, '\n')
	_, err := l.w.Write(l.line)
	l.line = l.line[:0]
	return err
}
