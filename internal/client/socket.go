package client

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"
)

// A socket is the path of a daemon's unix socket.
type socket string

// dial connects to the socket, if it is this user's or root's: the directory
// of the last resort, /tmp/usher-<uid>, could have been made by anybody.
func (s socket) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	info, err := os.Stat(string(s))
	if err != nil {
		return nil, err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := trust(owner.Uid, uint32(os.Geteuid())); err != nil {
			return nil, fmt.Errorf("connect to %s: %w", s, err)
		}
	}
	return new(net.Dialer).DialContext(ctx, "unix", string(s))
}

// trust returns an error if self is not to talk to a daemon of owner. Root may
// talk to anybody.
func trust(owner, self uint32) error {
	if owner != self && owner != 0 && self != 0 {
		return fmt.Errorf("the socket is user %d's, and this is user %d: %w", owner, self, os.ErrPermission)
	}
	return nil
}
