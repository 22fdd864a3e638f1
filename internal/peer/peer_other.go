//go:build !linux && !darwin

package peer

import (
	"errors"
	"net"
)

// UID is not known here.
func UID(*net.UnixConn) (uint32, error) { return 0, errors.ErrUnsupported }
