//go:build !linux

package vip

import (
	"errors"
	"fmt"
	"net/netip"
)

// AnyIP needs Linux. The error wraps errors.ErrUnsupported.
func AnyIP(service ...netip.Prefix) (*View, error) {
	return nil, fmt.Errorf("make %v local: only Linux can route a range to its loopback interface: %w", service, errors.ErrUnsupported)
}
