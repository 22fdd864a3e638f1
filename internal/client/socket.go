package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"usher/internal/peer"
)

// A socket is the path of a daemon's unix socket.
type socket string

// dial connects to the socket, if it is this user or root who serves it: the
// directory of the last resort, /tmp/usher-<uid>, could have been made by
// anybody.
func (s socket) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", string(s))
	if err != nil {
		return nil, err
	}
	owner, err := peer.UID(c.(*net.UnixConn))
	if err == nil {
		err = trust(owner, uint32(os.Geteuid()))
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		c.Close()
		return nil, fmt.Errorf("connect to %s: %w", s, err)
	}
	return c, nil
}

// trust returns an error if self is not to talk to a daemon of owner. Root may
// talk to anybody.
func trust(owner, self uint32) error {
	if owner != self && owner != 0 && self != 0 {
		return fmt.Errorf("the socket is user %d's, and this is user %d: %w", owner, self, os.ErrPermission)
	}
	return nil
}
