//go:build !linux

package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// Transparent returns why Backends cannot be dialled from the address of a
// client: only Linux has IP_TRANSPARENT. It wraps errors.ErrUnsupported.
func Transparent() error {
	return fmt.Errorf("only Linux can connect from the address of a client: %w", errors.ErrUnsupported)
}

// prepareSource is never needed.
func prepareSource(netip.Addr) func(network, address string, c syscall.RawConn) error { return nil }
