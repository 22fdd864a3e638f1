//go:build amd64 || arm64

package direct

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Resolvers drop an answer that is not from the nameserver they asked, as musl
// and c-ares do, and so may others. What comes to a UDP socket that has reached
// a Service is therefore received here, and handed over with the address that
// the program knows as its source.

// An incoming message is what a call has room for.
type incoming struct {
	header
	data       []segment
	nameLength uint64 // address of the length of the name, of recvfrom(2) alone
}

// recvfrom answers recvfrom(2) with room for an address.
func (r *receiver) recvfrom(n *notification) reply {
	in := &receiving{supervisor: r.supervisor, flags: int(uint32(n.Args[3]))}
	if rep, ok := in.begin(r, n); !ok {
		return rep
	}
	m := incoming{header: header{name: n.Args[4]}, data: []segment{{n.Args[1], n.Args[2]}}, nameLength: n.Args[5]}
	var length [4]byte
	if err := n.read(m.nameLength, length[:]); err != nil {
		unix.Close(in.fd)
		return r.unreadable(n, err)
	}
	m.header.nameLength = binary.NativeEndian.Uint32(length[:])
	in.messages = []incoming{m}
	return in.answer(n, onlyLength)
}

// recvmsg answers recvmsg(2).
func (r *receiver) recvmsg(n *notification) reply {
	return r.receiveMessages(n, int(uint32(n.Args[2])), onlyLength, func() ([]header, error) {
		h, err := n.header(n.Args[1])
		return []header{h}, err
	})
}

// recvmmsg answers recvmmsg(2). It waits for one message at most, and takes
// what else is there: fewer than there is room for is what a caller gets whom a
// signal interrupts.
func (r *receiver) recvmmsg(n *notification) reply {
	count := int(min(uint32(n.Args[2]), maxMessages))
	flags := int(uint32(n.Args[3])) &^ unix.MSG_WAITFORONE
	asked := *n
	return r.receiveMessages(n, flags, func(lengths []int) reply {
		return asked.tellLengths(lengths)
	}, func() ([]header, error) { return n.headers(n.Args[1], count) })
}

// receiveMessages answers a call with messages of which the headers are where
// read finds them.
func (r *receiver) receiveMessages(n *notification, flags int, done func([]int) reply, read func() ([]header, error)) reply {
	in := &receiving{supervisor: r.supervisor, flags: flags}
	if rep, ok := in.begin(r, n); !ok {
		return rep
	}
	headers, err := read()
	if err != nil {
		unix.Close(in.fd)
		return r.unreadable(n, err)
	}
	for _, h := range headers {
		data, err := n.parts(&h)
		if err != nil {
			unix.Close(in.fd)
			return failed(errnoOf(err))
		}
		in.messages = append(in.messages, incoming{header: h, data: data})
	}
	return in.answer(n, done)
}

// A receiving is one call that receives.
type receiving struct {
	*supervisor
	fd       int // a duplicate of the program's
	flags    int
	named    func(netip.AddrPort) netip.AddrPort
	messages []incoming
	lengths  []int // of those that were received
}

// begin finds the socket. If it returns false, the reply is the answer: mostly
// that the socket has reached no Service.
func (in *receiving) begin(r *receiver, n *notification) (reply, bool) {
	if in.flags&unix.MSG_ERRQUEUE != 0 {
		return proceed, false
	}
	fd, rep, ok := r.duplicate(n)
	if !ok {
		return rep, false
	}
	cookie, err := cookieOf(fd)
	if err == nil {
		in.named, ok = r.datagrams.named(cookie)
	}
	if err != nil || !ok {
		unix.Close(fd)
		return proceed, false
	}
	in.fd = fd
	return reply{}, true
}

// answer receives, now or as soon as something comes, and closes the socket.
func (in *receiving) answer(n *notification, done func([]int) reply) reply {
	errno := in.run(n)
	if errno != unix.EAGAIN || len(in.lengths) > 0 || !blocks(in.fd, uint64(in.flags)) {
		unix.Close(in.fd)
		return in.reply(errno, done)
	}
	asked := *n
	go func() {
		defer unix.Close(in.fd)
		in.supervisor.answer(&asked, in.wait(&asked, done))
	}()
	return later
}

// run receives as many messages as there are and have room.
func (in *receiving) run(n *notification) unix.Errno {
	for len(in.lengths) < len(in.messages) {
		length, errno := in.receive(n, &in.messages[len(in.lengths)])
		if errno != 0 {
			return errno
		}
		in.lengths = append(in.lengths, length)
	}
	return 0
}

// wait receives for a program that blocks.
func (in *receiving) wait(n *notification, done func([]int) reply) reply {
	deadline := deadlineOf(in.fd, unix.SO_RCVTIMEO)
	for {
		if _, rep, ok := in.block(n, in.fd, unix.POLLIN, deadline, unix.EAGAIN); !ok {
			return rep
		}
		if errno := in.run(n); errno != unix.EAGAIN || len(in.lengths) > 0 {
			return in.reply(errno, done)
		}
	}
}

// reply returns the answer to a call that ended with errno: that counts only if
// nothing was received before.
func (in *receiving) reply(errno unix.Errno, done func([]int) reply) reply {
	if errno != 0 && len(in.lengths) == 0 {
		return failed(errno)
	}
	return done(in.lengths)
}

// receive receives one message and writes it to where the program wants it.
func (in *receiving) receive(n *notification, m *incoming) (length int, errno unix.Errno) {
	data := make([]byte, total(m.data, maxDatagram))
	control := make([]byte, min(m.controlLen, maxControl))
	if m.control == 0 {
		control = nil
	}
	length, controlLength, flags, from, err := unix.RecvmsgBuffers(in.fd, [][]byte{data}, control, in.flags|unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return 0, errnoOf(err)
	}
	if err := n.scatter(m.data, data[:min(length, len(data))]); err != nil {
		return 0, unix.EFAULT
	}
	if err := in.writeSource(n, m, from); err != nil {
		return 0, unix.EFAULT
	}
	if m.at != 0 {
		err = m.writeBack(n, control[:controlLength], flags)
	}
	if err != nil {
		return 0, unix.EFAULT
	}
	return length, 0
}

// writeSource writes where a message came from, as the program knows it.
func (in *receiving) writeSource(n *notification, m *incoming, from unix.Sockaddr) error {
	family, source := addrPortOf(from)
	if m.name == 0 || family == 0 {
		return nil
	}
	b := sockaddrBytes(family, in.named(source))
	if err := n.write(m.name, b[:min(len(b), int(m.header.nameLength))]); err != nil {
		return err
	}
	var length [4]byte
	binary.NativeEndian.PutUint32(length[:], uint32(len(b)))
	at := m.nameLength
	if at == 0 {
		at = m.at + offNamelen
	}
	return n.write(at, length[:])
}

// writeBack writes what the kernel says of a message into its header.
func (m *incoming) writeBack(n *notification, control []byte, flags int) error {
	if err := n.write(m.control, control); err != nil {
		return err
	}
	var tail [sizeofMsghdr - offControllen]byte
	binary.NativeEndian.PutUint64(tail[:], uint64(len(control)))
	binary.NativeEndian.PutUint32(tail[offMsgFlags-offControllen:], uint32(flags&^unix.MSG_CMSG_CLOEXEC))
	return n.write(m.at+offControllen, tail[:])
}
