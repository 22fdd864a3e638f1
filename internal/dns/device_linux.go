package dns

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// bindToDevice returns a net.ListenConfig.Control that binds a socket to the
// device, which needs no privilege since Linux 5.7. An address on lo would
// answer other hosts otherwise.
func bindToDevice(device string) func(network, address string, c syscall.RawConn) error {
	if device == "" {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		var optErr error
		err := c.Control(func(fd uintptr) {
			optErr = os.NewSyscallError("setsockopt SO_BINDTODEVICE", unix.BindToDevice(int(fd), device))
		})
		if err != nil {
			return err
		}
		return optErr
	}
}
