//go:build linux

package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// request sends requests over connections that stay: each connection's next
// when the last is answered or, at a rate, when one is due.
type request struct {
	connections, size, rate int
}

// An exchange is what is under way on a descriptor.
type exchange struct {
	begun time.Time
	left  int // bytes to come
}

func (r request) run(t turn, p port) (sample, error) {
	l, err := newLoop()
	if err != nil {
		return sample{}, err
	}
	defer l.close()
	free, err := l.dialTCP(t.peer.address(p), r.connections, unix.EPOLLIN)
	if err != nil {
		return sample{}, err
	}
	var under table[exchange]
	buf := make([]byte, 64<<10)
	pace := newPacer(r.rate)
	m := newMeter(t.take, t.peer.pids())
	for m.tick() {
		if free, err = r.send(free, pace, &under, buf); err != nil {
			return sample{}, err
		}
		for _, event := range l.wait(pace.idle(len(free) > 0)) {
			fd := int(event.Fd)
			n, err := read(fd, buf)
			if err != nil && !isAgain(err) {
				return sample{}, fmt.Errorf("read answer: %w", err)
			}
			x := under.at(fd)
			if x.left -= n; x.left > 0 || n == 0 {
				continue
			}
			m.done(x.begun)
			// At once: a batch of answers shall not become a batch of requests.
			if free, err = r.send(append(free, fd), pace, &under, buf); err != nil {
				return sample{}, err
			}
		}
	}
	return m.sample()
}

// send begins what is due on the connections that are free, and returns those
// that still are.
func (r request) send(free []int, pace *pacer, under *table[exchange], buf []byte) ([]int, error) {
	for len(free) > 0 {
		at, due := pace.due()
		if !due {
			return free, nil
		}
		fd := free[len(free)-1]
		free = free[:len(free)-1]
		*under.at(fd) = exchange{begun: at, left: r.size}
		if _, err := write(fd, buf[:r.size]); err != nil {
			return free, fmt.Errorf("send request: %w", err)
		}
	}
	return free, nil
}
