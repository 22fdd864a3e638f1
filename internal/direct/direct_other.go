//go:build !linux || !(amd64 || arm64)

package direct

import (
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

var errHere = fmt.Errorf("translate connections: needs Linux on amd64 or arm64: %w", errors.ErrUnsupported)

// Probe needs Linux. The error wraps errors.ErrUnsupported.
func Probe() error { return errHere }

// Run needs Linux. The error wraps errors.ErrUnsupported.
func Run(Options, []string, []string) (code int, err error) { return 1, errHere }

// A Translator needs Linux.
type Translator struct{}

// Open needs Linux. The error wraps errors.ErrUnsupported.
func Open(Options) (*Translator, error) { return nil, errHere }

// Close does nothing.
func (*Translator) Close() {}

// Program returns nothing of use.
func (*Translator) Program(netip.Addr) *Program { return nil }

// A Program needs Linux.
type Program struct{}

// Enter needs Linux. The error wraps errors.ErrUnsupported.
func (*Program) Enter() error { return errHere }

// Given returns the number.
func (*Program) Given(_ corev1.Protocol, number uint16) uint16 { return number }

// Named returns the number.
func (*Program) Named(_ corev1.Protocol, number uint16) uint16 { return number }
