//go:build amd64 || arm64

package direct

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// sendto answers sendto(2) with an address.
func (r *receiver) sendto(n *notification) reply {
	to, rep, ok := r.target(n, n.Args[4], n.Args[5])
	if !ok {
		return rep
	}
	return r.send(n, to, n.Args[3])
}

// sizeofMsghdr is the size of a struct msghdr, which begins with the address
// and its length.
const sizeofMsghdr = 56

// sendmsg answers sendmsg(2) and sendmmsg(2), as far as the first message.
func (r *receiver) sendmsg(n *notification) reply {
	var header [sizeofMsghdr]byte
	if err := n.read(n.Args[1], header[:]); err != nil {
		return r.unreadable(n, err)
	}
	name, length := binary.NativeEndian.Uint64(header[:]), uint64(binary.NativeEndian.Uint32(header[8:]))
	if name == 0 {
		return proceed
	}
	to, rep, ok := r.target(n, name, length)
	if !ok {
		return rep
	}
	flags := n.Args[2]
	if n.Number == unix.SYS_SENDMMSG {
		flags = n.Args[3]
	}
	return r.send(n, to, flags)
}

func (r *receiver) send(n *notification, to address, flags uint64) reply {
	switch {
	case !r.translates(to):
		return proceed
	case flags&unix.MSG_FASTOPEN != 0: // as where it is switched off; programs connect then
		return failed(unix.EOPNOTSUPP)
	}
	return failed(unix.ECONNREFUSED)
}
