package sockets

import (
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Borrower has the sockets of another network namespace. Its methods are
// safe for concurrent use.
type Borrower struct {
	conn    *net.UnixConn
	answers chan answer
	done    chan struct{}

	mu sync.Mutex // held from a question to its answer
}

type answer struct {
	fd    int
	errno syscall.Errno
}

// NewBorrower returns a Borrower at its end of the connection, which it closes
// when the lender ends. The caller must call Close.
func NewBorrower(conn *net.UnixConn) *Borrower {
	b := &Borrower{conn: conn, answers: make(chan answer), done: make(chan struct{})}
	go b.read()
	return b
}

// Done is closed when there is no lender any more.
func (b *Borrower) Done() <-chan struct{} { return b.done }

// Close ends the loan: what was lent stays with who has it. It waits for what
// the Borrower has started.
func (b *Borrower) Close() error {
	err := b.conn.Close()
	<-b.done
	return err
}

// Socket returns a new socket of the namespace, of a family (AF_INET, AF_INET6)
// and a type (SOCK_STREAM, SOCK_DGRAM). It does not block and is closed by
// execve(2). The caller closes it.
func (b *Borrower) Socket(domain, kind int) (fd int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.send(question{byte(domain), byte(kind)}); err != nil {
		return -1, err
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case a := <-b.answers:
		return a.fd, os.NewSyscallError("socket", toError(a.errno))
	case <-late.C:
		b.conn.Close() // its answer would be that to the next question
		return -1, fmt.Errorf("open a socket in another network namespace: %w", os.ErrDeadlineExceeded)
	case <-b.done:
		return -1, errEnded
	}
}

// Ready tells the lender that all is as it should be.
func (b *Borrower) Ready() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.send(question{})
}

func (b *Borrower) send(q question) error {
	if err := b.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return errEnded
	}
	if _, err := b.conn.Write([]byte{q.domain, q.kind}); err != nil {
		return errEnded
	}
	return nil
}

// read passes answers on until the connection ends.
func (b *Borrower) read() {
	defer close(b.done)
	defer b.conn.Close()
	var text [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	for {
		n, noob, _, _, err := b.conn.ReadMsgUnix(text[:], oob)
		if err != nil || n == 0 {
			return
		}
		a := answer{received(oob[:noob]), syscall.Errno(text[0])}
		if a.errno == 0 && a.fd < 0 {
			a.errno = syscall.EPROTO
		}
		select {
		case b.answers <- a:
		case <-time.After(patience): // nobody has asked
			if a.fd >= 0 {
				unix.Close(a.fd)
			}
			return
		}
	}
}

// received returns the descriptor in a control message, or -1.
func received(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1
	}
	return fds[0]
}

func toError(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
