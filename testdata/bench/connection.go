//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// connection opens a connection for each request, and is the first to close it.
type connection struct {
	most int // at a time
	rate int
}

const connectionSize = 64

// A connector is a turn of connection under way.
type connector struct {
	connection
	loop  *loop
	dial  *dialer
	meter *meter
	pace  *pacer
	under table[exchange]
	open  int
	buf   []byte
}

func (c connection) run(t turn, p port) (sample, error) {
	l, err := newLoop()
	if err != nil {
		return sample{}, err
	}
	defer l.close()
	run := newConnector(c, l, t.peer.address(p))
	run.meter = newMeter(t.take, t.peer.pids())
	for run.meter.tick() {
		for run.open < c.most {
			at, due := run.pace.due()
			if !due {
				break
			}
			if err := run.begin(at); err != nil {
				return sample{}, err
			}
		}
		for _, event := range l.wait(run.pace.idle(run.open < c.most)) {
			if err := run.advance(int(event.Fd), event.Events); err != nil {
				return sample{}, err
			}
		}
	}
	return run.meter.sample()
}

func newConnector(c connection, l *loop, to netip.AddrPort) *connector {
	return &connector{connection: c, loop: l, dial: newDialer(to, unix.SOCK_STREAM), pace: newPacer(c.rate), buf: make([]byte, 4096)}
}

func (c *connector) begin(at time.Time) error {
	fd, err := c.dial.dial()
	if err != nil {
		return fmt.Errorf("open connection: %w", err)
	}
	c.open++
	*c.under.at(fd) = exchange{begun: at, left: connectionSize}
	// On lo the connection is there when connect returns, nearly always.
	events := uint32(unix.EPOLLIN)
	if n, _ := write(fd, c.buf[:connectionSize]); n != connectionSize {
		events = unix.EPOLLOUT
	}
	return c.loop.add(fd, events)
}

// advance takes what has come, or sends what could not be sent before.
func (c *connector) advance(fd int, events uint32) error {
	if events == unix.EPOLLOUT {
		if _, err := write(fd, c.buf[:connectionSize]); err == nil {
			return unix.EpollCtl(c.loop.fd, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
		}
	}
	x := c.under.at(fd)
	n, err := read(fd, c.buf)
	x.left -= n
	switch {
	case x.left <= 0:
		c.meter.done(x.begun)
	case err == nil || isAgain(err):
		return nil
	default: // refused, reset, or ended before the answer
		c.meter.lost++
	}
	return c.finish(fd)
}

// finish closes a connection and, unless there is a rate, opens the next at
// once: a batch of answers shall not become a batch of connections.
func (c *connector) finish(fd int) error {
	c.loop.remove(fd)
	c.open--
	if c.rate > 0 {
		return nil
	}
	return c.begin(time.Now())
}
