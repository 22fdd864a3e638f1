//go:build amd64 || arm64

package direct

import (
	"golang.org/x/sys/unix"
)

// sendto answers sendto(2) with an address.
func (r *receiver) sendto(n *notification) reply {
	to, rep, ok := r.target(n, n.Args[4], n.Args[5])
	if !ok {
		return rep
	}
	if !r.translates(to) {
		return proceed
	}
	return r.send(n, n.Args[3], []outgoing{{to: to, data: []segment{{n.Args[1], n.Args[2]}}}}, onlyLength)
}

// onlyLength is the reply to a call with one message.
func onlyLength(lengths []int) reply { return reply{value: int64(lengths[0])} }

// An outgoing message is one of a call.
type outgoing struct {
	header         // the zero one of sendto(2)
	to     address // the zero one if none is named
	data   []segment
}

// sendmsg answers sendmsg(2).
func (r *receiver) sendmsg(n *notification) reply {
	h, err := n.header(n.Args[1])
	if err != nil {
		return r.unreadable(n, err)
	}
	messages, rep, ok := r.outgoing(n, []header{h})
	if !ok {
		return rep
	}
	return r.send(n, n.Args[2], messages, onlyLength)
}

// sendmmsg answers sendmmsg(2). Each message has an address of its own.
func (r *receiver) sendmmsg(n *notification) reply {
	headers, err := n.headers(n.Args[1], int(min(uint32(n.Args[2]), maxMessages)))
	if err != nil {
		return r.unreadable(n, err)
	}
	messages, rep, ok := r.outgoing(n, headers)
	if !ok {
		return rep
	}
	asked := *n
	return r.send(n, n.Args[3], messages, func(lengths []int) reply { return asked.tellLengths(lengths) })
}

// outgoing returns the messages of a call. If it returns false, the reply is
// the answer: none of them is for a Service.
func (r *receiver) outgoing(n *notification, headers []header) ([]outgoing, reply, bool) {
	messages, ours := make([]outgoing, len(headers)), false
	for i, h := range headers {
		messages[i].header = h
		if h.name == 0 {
			continue
		}
		to, rep, ok := r.target(n, h.name, uint64(h.nameLength))
		switch {
		case ok:
			messages[i].to = to
			ours = ours || r.translates(to)
		case !rep.proceed:
			return nil, rep, false
		}
	}
	if !ours {
		return nil, proceed, false
	}
	for i := range messages {
		var err error
		if messages[i].data, err = n.parts(&messages[i].header); err != nil {
			return nil, failed(errnoOf(err)), false
		}
	}
	return messages, reply{}, true
}

// send sends the messages of a call, of which some are for Services, on the
// program's socket. The reply is what done makes of their lengths.
func (r *receiver) send(n *notification, flags uint64, messages []outgoing, done func(lengths []int) reply) reply {
	if flags&unix.MSG_FASTOPEN != 0 { // as where it is switched off; programs connect then
		return failed(unix.EOPNOTSUPP)
	}
	if !r.state.isListed() {
		return r.whenListed(n, func(r *receiver, n *notification) reply { return r.send(n, flags, messages, done) })
	}
	fd, rep, ok := r.duplicate(n)
	if !ok {
		return rep
	}
	if rep, ok := r.elsewhere(n, fd, addresses(messages)...); ok {
		unix.Close(fd)
		return rep
	}
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	cookie, err2 := cookieOf(fd)
	if err != nil || err2 != nil || protocol != unix.IPPROTO_UDP {
		unix.Close(fd)
		if err != nil || protocol == unix.IPPROTO_TCP || protocol == unix.IPPROTO_MPTCP {
			return proceed // no socket, or one that does not look at the address
		}
		return r.nobody(messages)
	}
	out := &sending{supervisor: r.supervisor, fd: fd, cookie: cookie, flags: int(uint32(flags)), rest: messages}
	if errno := out.run(n); errno != unix.EAGAIN || !blocks(fd, flags) {
		unix.Close(fd)
		return out.reply(errno, done)
	}
	asked := *n
	go func() {
		defer unix.Close(fd)
		r.answer(&asked, out.wait(&asked, done))
	}()
	return later
}

// addresses returns those that messages name.
func addresses(messages []outgoing) []address {
	list := make([]address, len(messages))
	for i := range messages {
		list[i] = messages[i].to
	}
	return list
}

// nobody returns the reply to messages to ClusterIPs that no protocol of
// Services is for. Those to other addresses, if only their port is a
// nameserver's, go on.
func (r *receiver) nobody(messages []outgoing) reply {
	for _, m := range messages {
		if m.to.ip.IsValid() && r.state.contains(m.to.ip.Addr()) {
			return failed(unix.ECONNREFUSED)
		}
	}
	return proceed
}

// A sending is the messages of one call on their way.
type sending struct {
	*supervisor
	fd      int // a duplicate of the program's
	cookie  uint64
	flags   int
	rest    []outgoing
	lengths []int // of those that were sent
}

// run sends the rest until one message fails. That is EAGAIN if there is no
// room in the socket.
func (o *sending) run(n *notification) unix.Errno {
	for len(o.rest) > 0 {
		length, errno := o.send(n, &o.rest[0])
		if errno != 0 {
			return errno
		}
		o.rest, o.lengths = o.rest[1:], append(o.lengths, length)
	}
	return 0
}

// wait sends the rest for a program that blocks until there is room.
func (o *sending) wait(n *notification, done func([]int) reply) reply {
	deadline := deadlineOf(o.fd, unix.SO_SNDTIMEO)
	for {
		if _, rep, ok := o.block(n, o.fd, unix.POLLOUT, deadline, unix.EAGAIN); !ok {
			if rep.later {
				return later
			}
			return o.reply(rep.errno, done)
		}
		if errno := o.run(n); errno != unix.EAGAIN {
			return o.reply(errno, done)
		}
	}
}

// reply returns the answer to a call that ended with errno: that counts only if
// nothing was sent before.
func (o *sending) reply(errno unix.Errno, done func([]int) reply) reply {
	if errno != 0 && len(o.lengths) == 0 {
		return failed(errno)
	}
	return done(o.lengths)
}

// send sends one message.
func (o *sending) send(n *notification, m *outgoing) (length int, errno unix.Errno) {
	data, err := n.content(m.data)
	if err != nil {
		return 0, errnoOf(err)
	}
	control, err := n.ancillary(&m.header)
	if err != nil {
		return 0, errnoOf(err)
	}
	var to unix.Sockaddr
	switch {
	case o.translates(m.to):
		backend, ok := o.flowOf(o.cookie, m.to)
		if !ok {
			return 0, unix.ECONNREFUSED
		}
		to = m.to.sockaddr(backend)
	case m.to.ip.IsValid():
		to = m.to.sockaddr(m.to.ip)
	}
	length, err = unix.SendmsgN(o.fd, data, control, to, o.flags|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	return length, errnoOf(err)
}

// blocks reports whether a call with flags (MSG_DONTWAIT) waits.
func blocks(fd int, flags uint64) bool {
	status, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && status&unix.O_NONBLOCK == 0 && flags&unix.MSG_DONTWAIT == 0
}
