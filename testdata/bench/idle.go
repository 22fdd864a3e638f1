//go:build linux

package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// idle opens connections, uses each once, and looks at what the proxy holds
// for them. The proxy is new, so that it has no room from before.
type idle struct{ connections int }

// settleTime is how long a proxy has to put away what it needs no more.
const settleTime = 2 * time.Second

func (i idle) run(t turn, p port) (sample, error) {
	if err := t.peer.restart(); err != nil {
		return sample{}, err
	}
	time.Sleep(settleTime)
	resident, files, err := residentOf(t.peer.pids())
	if err != nil {
		return sample{}, err
	}
	l, err := newLoop()
	if err != nil {
		return sample{}, err
	}
	defer l.close()
	// The naive proxy needs six descriptors for each.
	n := min(i.connections, (descriptors()-1000)/6)
	begun := time.Now()
	fds, err := l.dialTCP(t.peer.address(p), n, unix.EPOLLIN)
	if err != nil {
		return sample{}, err
	}
	if err := useOnce(fds); err != nil {
		return sample{}, err
	}
	took := time.Since(begun)
	time.Sleep(settleTime)
	after, filesAfter, err := residentOf(t.peer.pids())
	return sample{
		Seconds:     took.Seconds(),
		Units:       float64(n),
		Resident:    float64(after-resident) / float64(n),
		Descriptors: float64(filesAfter-files) / float64(n),
	}, err
}

// useOnce sends a little over each connection and waits until it is back.
func useOnce(fds []int) error {
	buf := make([]byte, connectionSize)
	for _, fd := range fds {
		if _, err := write(fd, buf); err != nil {
			return fmt.Errorf("use connection: %w", err)
		}
		for left := len(buf); left > 0; {
			if err := awaitReady(fd, unix.POLLIN); err != nil {
				return fmt.Errorf("use connection: %w", err)
			}
			n, err := read(fd, buf)
			if err != nil {
				return fmt.Errorf("use connection: %w", err)
			}
			left -= n
		}
	}
	return nil
}
