//go:build !linux

package agent

import (
	"errors"
	"net/netip"
)

// whoListens cannot be known here without a privilege.
func whoListens(netip.AddrPort) (listening, error) { return listening{}, errors.ErrUnsupported }

// hasSocket cannot be known either.
func hasSocket(int, []uint64) (has, known bool) { return false, false }

// listensAt cannot be known either.
func listensAt(netip.Addr) (tcp, udp []uint16, err error) { return nil, nil, errors.ErrUnsupported }
