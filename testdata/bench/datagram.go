//go:build linux

package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// datagram sends a datagram from each of its sockets and waits for the answer
// before the next. Fresh sockets are used once: each datagram comes from a
// port that the proxy has not seen, as those of DNS resolvers do.
type datagram struct {
	sockets, rate int
	fresh         bool
}

const (
	datagramSize = 64
	// lostAfter is when a datagram without an answer is given up.
	lostAfter = 300 * time.Millisecond
)

// A correspondent is a turn of datagram under way.
type correspondent struct {
	datagram
	loop  *loop
	dial  *dialer
	meter *meter
	pace  *pacer
	free  []int
	begun map[int]time.Time // of the sockets that wait
	swept time.Time
	buf   []byte
}

func (d datagram) run(t turn, p port) (sample, error) {
	l, err := newLoop()
	if err != nil {
		return sample{}, err
	}
	defer l.close()
	c := &correspondent{
		datagram: d, loop: l, dial: newDialer(t.peer.address(p), unix.SOCK_DGRAM), pace: newPacer(d.rate),
		begun: map[int]time.Time{}, buf: make([]byte, 4096),
	}
	for range d.sockets {
		if err := c.open(); err != nil {
			return sample{}, err
		}
	}
	c.meter = newMeter(t.take, t.peer.pids())
	for c.meter.tick() {
		if err := c.sweep(); err != nil {
			return sample{}, err
		}
		c.send()
		for _, event := range l.wait(c.pace.idle(len(c.free) > 0)) {
			if err := c.receive(int(event.Fd)); err != nil {
				return sample{}, err
			}
			c.send()
		}
	}
	return c.meter.sample()
}

func (c *correspondent) open() error {
	fd, err := c.dial.dial()
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	c.free = append(c.free, fd)
	return c.loop.add(fd, unix.EPOLLIN)
}

// send sends what is due. What cannot leave is lost like any other.
func (c *correspondent) send() {
	for len(c.free) > 0 {
		at, due := c.pace.due()
		if !due {
			return
		}
		fd := c.free[len(c.free)-1]
		c.free = c.free[:len(c.free)-1]
		c.begun[fd] = at
		write(fd, c.buf[:datagramSize])
	}
}

func (c *correspondent) receive(fd int) error {
	begun, waits := c.begun[fd]
	// An error is a refusal: the datagram is given up in time.
	if n, _ := read(fd, c.buf); n == 0 || !waits {
		return nil
	}
	c.meter.done(begun)
	return c.release(fd)
}

// release makes a socket free for the next datagram, or makes a new one.
func (c *correspondent) release(fd int) error {
	delete(c.begun, fd)
	if !c.fresh {
		c.free = append(c.free, fd)
		return nil
	}
	c.loop.remove(fd)
	return c.open()
}

// sweep gives up what has waited too long.
func (c *correspondent) sweep() error {
	if time.Since(c.swept) < lostAfter/3 {
		return nil
	}
	c.swept = time.Now()
	for fd, begun := range c.begun {
		if c.swept.Sub(begun) < lostAfter {
			continue
		}
		c.meter.lost++
		if err := c.release(fd); err != nil {
			return err
		}
	}
	return nil
}
