package sockets

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Loan is a connection to a borrower, at the end of the lender.
type Loan struct {
	conn *net.UnixConn
	in   *bufio.Reader // what it asks; it may have come with the response
}

// Offer offers the sockets of this network namespace to who serves the unix
// socket at path, by a request to target. The caller must call Serve or Close.
func Offer(path string, target *url.URL) (*Loan, error) {
	c, err := net.DialTimeout("unix", path, patience)
	if err != nil {
		return nil, err
	}
	l := newLoan(c.(*net.UnixConn))
	if err := l.upgrade(target); err != nil {
		c.Close()
		return nil, err
	}
	return l, nil
}

func newLoan(c *net.UnixConn) *Loan { return &Loan{conn: c, in: bufio.NewReader(c)} }

// upgrade makes the request.
func (l *Loan) upgrade(target *url.URL) error {
	if err := l.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	req := &http.Request{
		Method: http.MethodPost, URL: target, Host: "usher",
		Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {Protocol}},
	}
	if err := req.Write(l.conn); err != nil {
		return err
	}
	resp, err := http.ReadResponse(l.in, req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // as far as it goes
		return fmt.Errorf("the daemon answers %s: %s", resp.Status, text)
	}
	return l.conn.SetDeadline(time.Time{})
}

// Close ends the loan.
func (l *Loan) Close() error { return l.conn.Close() }

// Serve lends sockets until the borrower ends, and calls ready each time that
// it says it has all that it wants. It closes the connection.
func (l *Loan) Serve(ready func()) error {
	defer l.conn.Close()
	for {
		var q [2]byte
		if _, err := io.ReadFull(l.in, q[:]); err != nil {
			return err
		}
		if q == [2]byte{} {
			ready()
			continue
		}
		if err := l.answer(int(q[0]), int(q[1])); err != nil {
			return err
		}
	}
}

func (l *Loan) answer(domain, kind int) error {
	fd, err := open(domain, kind)
	if err != nil {
		var errno syscall.Errno
		errors.As(err, &errno)
		_, err = l.conn.Write([]byte{byte(errno)})
		return err
	}
	defer unix.Close(fd)
	_, _, err = l.conn.WriteMsgUnix([]byte{0}, unix.UnixRights(fd), nil)
	return err
}

// open opens a socket, of the kinds that somebody listens with.
func open(domain, kind int) (int, error) {
	if domain != unix.AF_INET && domain != unix.AF_INET6 || kind != unix.SOCK_STREAM && kind != unix.SOCK_DGRAM {
		return -1, syscall.EINVAL
	}
	return unix.Socket(domain, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}
