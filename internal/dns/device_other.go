//go:build !linux

package dns

import (
	"errors"
	"fmt"
	"syscall"
)

// bindToDevice returns a net.ListenConfig.Control that refuses: sockets are
// bound to a device on Linux alone.
func bindToDevice(device string) func(network, address string, c syscall.RawConn) error {
	if device == "" {
		return nil
	}
	return func(_, _ string, _ syscall.RawConn) error {
		return fmt.Errorf("bind to device %s: %w", device, errors.ErrUnsupported)
	}
}
