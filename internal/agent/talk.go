package agent

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// talkDelay is how long somebody who has something to say waits until it is
	// written, so that what is said stands in the order of what happened.
	talkDelay = 200 * time.Millisecond

	// maxUnsaid bounds the lines that wait for a reader. Those beyond are lost.
	maxUnsaid = 256
)

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

// A talker writes what the agent has to say. It holds nobody up: where the
// reader stalls, the lines come late or not at all.
type talker struct {
	w       io.Writer
	lines   chan saying
	stalled atomic.Bool   // nobody waits for a line until one has been written
	done    chan struct{} // closed when every line has been written, after close
}

// A saying is one line.
type saying struct {
	text    string
	written chan struct{}
}

// newTalker returns a talker to w. The caller must close it.
func newTalker(w io.Writer) *talker {
	t := &talker{w: w, lines: make(chan saying, maxUnsaid), done: make(chan struct{})}
	go t.run()
	return t
}

func (t *talker) run() {
	defer close(t.done)
	for s := range t.lines {
		_, _ = io.WriteString(t.w, s.text) // there is nobody to tell
		t.stalled.Store(false)
		close(s.written)
	}
}

// talk says one line.
func (t *talker) talk(format string, a ...any) {
	s := saying{text: fmt.Sprintf(format+"\n", a...), written: make(chan struct{})}
	select {
	case t.lines <- s:
	default:
		return
	}
	if !t.stalled.Load() {
		t.await(s.written)
	}
}

// await waits for the writer, for a while.
func (t *talker) await(written <-chan struct{}) {
	select {
	case <-written:
	case <-time.After(talkDelay):
		t.stalled.Store(true)
	}
}

// close ends the talker, after which there must be no talk. What is still not
// written is left behind.
func (t *talker) close() {
	close(t.lines)
	t.await(t.done)
}
