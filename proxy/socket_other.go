//go:build !linux

package proxy

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// bindToDevice returns nil for no device. Others are known on Linux only.
func bindToDevice(device string) func(network, address string, c syscall.RawConn) error {
	if device == "" {
		return nil
	}
	return func(string, string, syscall.RawConn) error {
		return fmt.Errorf("bind to device %s: %w", device, errors.ErrUnsupported)
	}
}

// pauseSocket closes the socket: nothing else makes the kernel refuse
// connections. The caller must hold mu.
func (l *tcpListener) pauseSocket() error { return l.ln.Close() }

// resumeSocket opens the socket again. The caller must hold mu.
func (l *tcpListener) resumeSocket() error { return l.openSocket() }

// isDead cannot be told.
func isDead(*net.TCPConn) bool { return false }

// unsent cannot be told. What was written is given a moment to leave.
func unsent(*net.TCPConn) int {
	time.Sleep(10 * time.Millisecond)
	return 0
}
