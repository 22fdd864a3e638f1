//go:build linux

package main

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// flood sends datagrams that nobody answers, at a rate or as fast as it can.
type flood struct{ sockets, rate int }

const (
	floodSize = 1200
	// floodBatch is how many datagrams leave in one call.
	floodBatch = 16
)

func (f flood) run(t turn, p port) (sample, error) {
	l, err := newLoop()
	if err != nil {
		return sample{}, err
	}
	defer l.close()
	d := newDialer(t.peer.address(p), unix.SOCK_DGRAM)
	var fds []int
	for range f.sockets {
		fd, err := d.dial()
		if err != nil {
			return sample{}, fmt.Errorf("open socket: %w", err)
		}
		fds = append(fds, fd)
		if err := l.add(fd, 0); err != nil {
			return sample{}, err
		}
	}
	b := newBatch(floodBatch, floodSize, false)
	pace := newPacer(f.rate / floodBatch)
	m := newMeter(t.take, t.peer.pids())
	var sent, before int64
	m.begin = func() { sent, before = 0, t.sinks.received.Load() }
	m.settle = func() {
		time.Sleep(50 * time.Millisecond) // for what is under way
		received := t.sinks.received.Load() - before
		m.units, m.lost = float64(received), float64(max(0, sent-received))
	}
	for next := 0; m.tick(); {
		if _, due := pace.due(); !due {
			l.wait(pace.idle(true))
			continue
		}
		sent += int64(b.send(fds[next], floodBatch))
		next = (next + 1) % len(fds)
	}
	return m.sample()
}

// sinks are the backends of the flood. They are in this process, so that it
// knows what arrives.
type sinks struct{ received atomic.Int64 }

func openSinks(p port) (*sinks, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	for _, host := range backendHosts {
		fd, err := bindUDP(host, p.backend)
		if err != nil {
			return nil, err
		}
		if err := l.add(fd, unix.EPOLLIN); err != nil {
			return nil, err
		}
	}
	s := &sinks{}
	go s.count(l)
	return s, nil
}

// count runs as long as the process. It takes the first byte of each datagram.
func (s *sinks) count(l *loop) {
	runtime.LockOSThread()
	b := newBatch(64, 1, false)
	for {
		for _, event := range l.wait(time.Second) {
			s.received.Add(int64(b.receive(int(event.Fd))))
		}
	}
}
