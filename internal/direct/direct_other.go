//go:build !linux || !(amd64 || arm64)

package direct

import (
	"errors"
	"fmt"
)

var errHere = fmt.Errorf("translate connections: needs Linux on amd64 or arm64: %w", errors.ErrUnsupported)

// Probe needs Linux. The error wraps errors.ErrUnsupported.
func Probe() error { return errHere }

// Run needs Linux. The error wraps errors.ErrUnsupported.
func Run(Options) (code int, err error) { return 1, errHere }
