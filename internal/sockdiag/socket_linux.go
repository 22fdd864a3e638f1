package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Groups of those who are told of sockets that end (enum sknetlink_groups).
const (
	groupTCP4 = 1
	groupTCP6 = 3
)

// wantedBuffer is what there is room for in the kernel, in bytes, if the system
// lets us have as much (net.core.rmem_max): some thousand sockets.
const wantedBuffer = 4 << 20

// A Watcher is told of each TCP socket of its network namespace that ends.
type Watcher struct {
	file *os.File
	raw  syscall.RawConn
	buf  []byte
}

// Watch returns a Watcher. The caller must Close it.
func Watch() (*Watcher, error) { return watch(wantedBuffer) }

func watch(buffer int) (*Watcher, error) {
	fd, err := open(unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer) // less does, too
	w := &Watcher{file: os.NewFile(uintptr(fd), "sock_diag"), buf: make([]byte, 64<<10)}
	if w.raw, err = w.file.SyscallConn(); err != nil {
		w.file.Close()
		return nil, fmt.Errorf("wait for sockets that end: %w", err)
	}
	if err := w.Join(); err != nil {
		w.file.Close()
		return nil, err
	}
	return w, nil
}

// Leave has the Watcher told of nothing until Join.
func (w *Watcher) Leave() { _ = w.member(unix.NETLINK_DROP_MEMBERSHIP) }

// Join has the Watcher told of ends from now on.
func (w *Watcher) Join() error {
	if err := w.member(unix.NETLINK_ADD_MEMBERSHIP); err != nil {
		return fmt.Errorf("ask to be told of sockets that end: %w", err)
	}
	return nil
}

func (w *Watcher) member(option int) (err error) {
	errControl := w.raw.Control(func(fd uintptr) {
		err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, option, groupTCP4),
			unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, option, groupTCP6))
	})
	return errors.Join(errControl, err)
}

// Close ends the Watcher, and a Next that waits.
func (w *Watcher) Close() error { return w.file.Close() }

// Next waits until sockets have ended, and calls ended with each of those that
// there is word of by now. It reports whether there were more than the kernel
// had room for: those that were lost are only missed by who looks for them
// (Dump). An error is one that lasts, or that the Watcher is closed.
func (w *Watcher) Next(ended func(*Socket)) (lost bool, err error) {
	some := false
	errRead := w.raw.Read(func(fd uintptr) bool {
		for {
			var n int
			n, err = w.receive(int(fd))
			switch {
			case err == nil:
				some = true
				sockets(w.buf[:n], ended)
			case errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.ENOBUFS):
				some, lost = true, true
			case errors.Is(err, unix.EAGAIN):
				err = nil
				return some
			default:
				return true
			}
		}
	})
	if err == nil {
		err = errRead
	}
	if err != nil {
		return lost, fmt.Errorf("wait for sockets that end: %w", err)
	}
	return lost, nil
}

// receive reads one datagram of the kernel's.
func (w *Watcher) receive(fd int) (int, error) {
	n, from, err := unix.Recvfrom(fd, w.buf, unix.MSG_DONTWAIT)
	if err != nil {
		return 0, err
	}
	if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 { // not the kernel
		n = 0
	}
	return n, nil
}

// sockets calls found with each socket that a datagram is about, and reports
// whether it is the last of an answer.
func sockets(b []byte, found func(*Socket)) (last bool, err error) {
	for {
		m, rest, ok := cut(b)
		if !ok {
			return false, nil
		}
		b = rest
		switch m.kind {
		case typeDone:
			return true, nil
		case typeError:
			if len(m.body) >= 4 {
				if errno := int32(binary.NativeEndian.Uint32(m.body)); errno != 0 {
					return true, unix.Errno(-errno)
				}
			}
		case typeByFamily:
			if s, ok := parse(m.body); ok {
				found(&s)
			}
		}
	}
}

func open(flags int) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|flags, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return -1, fmt.Errorf("open a sock_diag socket: %w", err)
	}
	// One without a number of its own has the kernel's, 0, and hears nothing of
	// what that tells to groups.
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("open a sock_diag socket: %w", err)
	}
	return fd, nil
}

// connected are the states of sockets that have a peer, TIME_WAIT apart.
const connected = 1<<Established | 1<<SynSent | 1<<FinWait1 | 1<<FinWait2 | 1<<CloseWait | 1<<LastAck | 1<<Closing

// Dump calls found with each TCP socket of this network namespace that has a
// peer. One that comes or goes meanwhile may be among them or not.
func Dump(found func(*Socket)) error {
	fd, err := open(0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, family := range []uint8{familyIPv4, familyIPv6} {
		if err := dump(fd, family, found); err != nil {
			return fmt.Errorf("list TCP sockets: %w", err)
		}
	}
	return nil
}

func dump(fd int, family uint8, found func(*Socket)) error {
	const length = headerLen + 8 + 48 // struct inet_diag_req_v2
	req := make([]byte, length)
	binary.NativeEndian.PutUint32(req, length)
	binary.NativeEndian.PutUint16(req[4:], typeByFamily)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := req[headerLen:]
	body[0], body[1] = family, unix.IPPROTO_TCP
	body[2] = 1 << (attrInfo - 1)
	binary.NativeEndian.PutUint32(body[4:], connected)
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if last, err := sockets(buf[:n], found); last || err != nil {
			return err
		}
	}
}
