//go:build !linux

package proxy

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// prepare returns nil for no device. Others are known on Linux only.
func prepare(at ListenAddr) func(network, address string, c syscall.RawConn) error {
	if at.Device == "" {
		return nil
	}
	return func(string, string, syscall.RawConn) error {
		return fmt.Errorf("bind to device %s: %w", at.Device, errors.ErrUnsupported)
	}
}

// listenElsewhere and receiveElsewhere need network namespaces.
func listenElsewhere(ListenAddr) (*net.TCPListener, error) { return nil, errors.ErrUnsupported }
func receiveElsewhere(ListenAddr) (*net.UDPConn, error)    { return nil, errors.ErrUnsupported }

// pauseSocket closes the socket: nothing else makes the kernel refuse
// connections. The caller must hold mu.
func (l *tcpListener) pauseSocket() error { return l.ln.Close() }

// resumeSocket opens the socket again. The caller must hold mu.
func (l *tcpListener) resumeSocket() error { return l.openSocket() }

// A waiter waits until a connection can be read.
type waiter struct{ raw syscall.RawConn }

func newWaiter(c *net.TCPConn) (*waiter, error) {
	raw, err := c.SyscallConn()
	return &waiter{raw}, err
}

// wait returns how many bytes there are, as far as it looks, 0 at the end of
// the stream.
func (w *waiter) wait() (there int, err error) {
	var peekErr error
	err = w.raw.Read(func(fd uintptr) bool {
		buf := buffers.Get().(*[maxDatagram]byte)
		defer buffers.Put(buf)
		for {
			if there, _, peekErr = syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK); peekErr != syscall.EINTR {
				return peekErr != syscall.EAGAIN
			}
		}
	})
	if err == nil {
		err = os.NewSyscallError("recvfrom", peekErr)
	}
	return there, err
}

// isClosed, isFailed, acknowledged and received cannot be told.
func isClosed(*net.TCPConn) bool       { return false }
func isFailed(*net.TCPConn) bool       { return false }
func acknowledged(*net.TCPConn) uint64 { return 0 }

func received(*net.TCPConn) (n uint64, known bool) { return 0, false }

// unsent cannot be told. What was written is given a moment to leave.
func unsent(*net.TCPConn) int {
	time.Sleep(10 * time.Millisecond)
	return 0
}
