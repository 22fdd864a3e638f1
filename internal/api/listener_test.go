package api

import (
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pipeListener accepts the connections that it is given, and errors.
type pipeListener struct {
	accepted chan any // net.Conn or error
	calls    atomic.Int64
	closed   chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	l.calls.Add(1)
	select {
	case v := <-l.accepted:
		if c, ok := v.(net.Conn); ok {
			return c, nil
		}
		return nil, v.(error)
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func newPipeListener() *pipeListener {
	return &pipeListener{accepted: make(chan any, 1000), closed: make(chan struct{})}
}

func pipeEnd() net.Conn {
	c, _ := net.Pipe()
	return c
}

// Out of file descriptors, accept is tried again ever more slowly, and goes on
// when there are some.
func TestAcceptBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPipeListener()
		for range 12 {
			inner.accepted <- &net.OpError{Op: "accept", Err: syscall.EMFILE}
		}
		inner.accepted <- pipeEnd()
		l := newListener(inner, nil, slog.New(slog.DiscardHandler))
		defer l.Close()
		begin := time.Now()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// 5, 10, 20, … 640 ms, then 4 times a second.
		if got, want := time.Since(begin), 1275*time.Millisecond+4*time.Second; got != want {
			t.Errorf("waited %v, want %v", got, want)
		}
	})
}

func TestAcceptEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// By an error that does not pass.
		inner := newPipeListener()
		inner.accepted <- errors.New("broken")
		l := newListener(inner, nil, slog.New(slog.DiscardHandler))
		if _, err := l.Accept(); err == nil || err.Error() != "broken" {
			t.Errorf("got %v", err)
		}
		l.Close()

		// By Close, while it waits between two attempts.
		inner = newPipeListener()
		inner.accepted <- &net.OpError{Op: "accept", Err: syscall.EMFILE}
		l = newListener(inner, nil, slog.New(slog.DiscardHandler))
		ended := make(chan error)
		go func() { _, err := l.Accept(); ended <- err }()
		synctest.Wait()
		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// Connections beyond the limit wait for one to close.
func TestAcceptLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPipeListener()
		l := newListener(inner, nil, slog.New(slog.DiscardHandler))
		var open []net.Conn
		for range maxConns {
			inner.accepted <- pipeEnd()
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, c)
		}
		accepted := make(chan net.Conn)
		go func() { c, _ := l.Accept(); accepted <- c }()
		inner.accepted <- pipeEnd()
		synctest.Wait()
		if got := inner.calls.Load(); got != maxConns {
			t.Errorf("%d accepts, want %d", got, maxConns)
		}
		open[0].Close()
		open[0].Close() // gives back one slot, not two
		(<-accepted).Close()
		if got := len(l.slots); got != maxConns-1 {
			t.Errorf("%d slots are taken, want %d", got, maxConns-1)
		}
		l.closeConns(true)
		l.Close()
		if got := len(l.slots); got != 0 {
			t.Errorf("%d slots are taken after all is closed", got)
		}
	})
}

// A peer that is not let in costs nothing, and keeps nobody out.
func TestAdmit(t *testing.T) {
	inner := newPipeListener()
	first := true
	l := newListener(inner, func(net.Conn) error {
		if first {
			first = false
			return errors.New("a stranger")
		}
		return nil
	}, slog.New(slog.DiscardHandler))
	defer l.Close()
	stranger, end := net.Pipe()
	inner.accepted <- stranger
	inner.accepted <- pipeEnd()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := end.Read(make([]byte, 1)); err == nil {
		t.Error("the stranger's connection is open")
	}
	if got := len(l.slots); got != 1 {
		t.Errorf("%d slots are taken, want 1", got)
	}
}

// A connection that is accepted while its listener closes is closed too.
func TestAcceptWhileClosing(t *testing.T) {
	inner := newPipeListener()
	l := newListener(inner, nil, slog.New(slog.DiscardHandler))
	late, end := net.Pipe()
	l.admit = func(net.Conn) error { return l.Close() }
	inner.accepted <- late
	if c, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, %v", c, err)
	}
	if _, err := end.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
}
