package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"usher/internal/peer"
)

// ListenUnix opens the unix socket at path, for this user and root alone. Its
// directory is made if there is none. A socket that somebody serves is left
// alone and is an error; one that nobody serves any more is replaced.
func (s *Server) ListenUnix(path string) error {
	// There is a moment between bind and chmod in which the mode does not
	// protect the socket; the check of each peer does.
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the directory of the socket: %w", err)
	}
	if err := checkOwner(filepath.Dir(path)); err != nil {
		return fmt.Errorf("listen on unix:%s: %w", path, err)
	}
	if err := removeStale(path); err != nil {
		return fmt.Errorf("listen on unix:%s: %w", path, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen on unix:%s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return fmt.Errorf("restrict unix:%s: %w", path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.local = newListener(l, admitPeer, s.log)
	return nil
}

// checkOwner refuses a directory of another user's, who could put a socket of
// his own in the place of ours.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	sticky := info.Mode()&os.ModeSticky != 0 // as /tmp: files are their owners'
	if ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() && !sticky {
		return fmt.Errorf("%s belongs to user %d", dir, st.Uid)
	}
	return nil
}

// removeStale removes the socket at path if nobody listens on it.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is something else than a socket")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		c.Close()
		return errors.New("another process serves it")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("find out whether another process serves it: %w", err)
	}
	return os.Remove(path)
}

// admitPeer lets in this user and root.
func admitPeer(c net.Conn) error {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("%T has no peer credentials", c)
	}
	uid, err := peer.UID(uc)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil // the mode of the socket is what protects it
	}
	if err != nil {
		return fmt.Errorf("read the credentials of the peer: %w", err)
	}
	return admitUser(uid, uint32(os.Geteuid()))
}

func admitUser(uid, self uint32) error {
	if uid != 0 && uid != self {
		return fmt.Errorf("the peer is user %d, not %d or root", uid, self)
	}
	return nil
}
