//go:build linux

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// bulk moves as many bytes as it can over a few streams.
type bulk struct {
	streams int
	up      bool
}

const gigabyte = 1e9

func (b bulk) run(t turn, p port) (sample, error) {
	l, err := newLoop()
	if err != nil {
		return sample{}, err
	}
	defer l.close()
	events, move := uint32(unix.EPOLLIN), pull
	if b.up {
		events, move = unix.EPOLLOUT, push
	}
	if _, err := l.dialTCP(t.peer.address(p), b.streams, events); err != nil {
		return sample{}, err
	}
	m := newMeter(t.take, t.peer.pids())
	buf := make([]byte, 128<<10)
	for m.tick() {
		for _, event := range l.wait(warmUp) {
			n, err := move(int(event.Fd), buf)
			if err != nil && !isAgain(err) {
				return sample{}, fmt.Errorf("move bytes: %w", err)
			}
			m.units += float64(n) / gigabyte
		}
	}
	return m.sample()
}

func push(fd int, buf []byte) (int, error) { return write(fd, buf) }

func pull(fd int, _ []byte) (int, error) { return discard(fd, 8<<20) }
