package agent

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// maxLine bounds what is kept of a line whose end has not come yet, in bytes.
// A longer one is written in pieces.
const maxLine = 64 << 10

// lockedWriter lets several goroutines write whole lines to one writer.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// talk writes what the agent has to say, one line a call.
func (l *lockedWriter) talk(format string, a ...any) {
	fmt.Fprintf(l, format+"\n", a...)
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
