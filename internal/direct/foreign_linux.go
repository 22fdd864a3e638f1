//go:build amd64 || arm64

package direct

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Programs of 32 bits make the same calls by other numbers. They are translated
// as all others, but for messages with an address: those are looked at, and
// refused if they name a ClusterIP, since their headers are others.

// A foreignCall is the number of a call in the foreign ABI, and in ours.
type foreignCall struct{ number, ours uint32 }

// A socketCall is one of socketcall(2), and how many arguments it has.
type socketCall struct {
	call, ours uint32
	arguments  int
}

// foreignRules are those of the filter for the foreign ABI.
func foreignRules(listens bool) []rule {
	var list []rule
	for _, c := range foreignCalls {
		for _, r := range rules(listens) {
			if r.number == c.ours {
				r.number = c.number
				list = append(list, r)
			}
		}
	}
	if len(socketcalls) > 0 { // the filter cannot see more of the arguments
		r := rule{number: socketcall, verdict: unix.SECCOMP_RET_USER_NOTIF}
		for _, c := range socketcalls {
			r.chains = append(r.chains, []test{{low(0), 0, bpf.JumpEqual, c.call}})
		}
		list = append(list, r)
	}
	return list
}

// domesticate makes a call of the foreign ABI one of ours. If it returns
// false, the reply is the answer.
func (r *receiver) domesticate(n *notification) (reply, bool) {
	if uint32(n.Number) == socketcall {
		if err := n.unpack(); err != nil {
			return r.unreadable(n, err), false
		}
	} else if i := slices.IndexFunc(foreignCalls, func(c foreignCall) bool { return c.number == uint32(n.Number) }); i >= 0 {
		n.Number = int32(foreignCalls[i].ours)
	}
	switch n.Number {
	case unix.SYS_SENDMSG, unix.SYS_SENDMMSG:
		return r.foreignMessages(n), false
	}
	return reply{}, true
}

// unpack makes a socketcall(2) the call that it stands for.
func (n *notification) unpack() error {
	i := slices.IndexFunc(socketcalls, func(c socketCall) bool { return uint64(c.call) == n.Args[0] })
	if i < 0 {
		return nil
	}
	c := socketcalls[i]
	b := make([]byte, 4*c.arguments)
	if err := n.read(n.Args[1], b); err != nil {
		return err
	}
	n.Number, n.Args = int32(c.ours), [6]uint64{}
	for i := range c.arguments {
		n.Args[i] = uint64(binary.NativeEndian.Uint32(b[4*i:]))
	}
	return nil
}

// Sizes in the foreign ABI.
const (
	sizeofForeignMsghdr  = 28
	sizeofForeignMmsghdr = 32
)

// foreignMessages answers sendmsg(2) and sendmmsg(2) of the foreign ABI.
func (r *receiver) foreignMessages(n *notification) reply {
	count, size := 1, sizeofForeignMsghdr
	if n.Number == unix.SYS_SENDMMSG {
		count, size = int(min(uint32(n.Args[2]), maxMessages)), sizeofForeignMmsghdr
	}
	b := make([]byte, count*size)
	if err := n.read(n.Args[1], b); err != nil {
		return r.unreadable(n, err)
	}
	for ; len(b) > 0; b = b[size:] {
		name, length := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:])
		if name == 0 {
			continue
		}
		to, rep, ok := r.target(n, uint64(name), uint64(length))
		switch {
		case !ok && !rep.proceed:
			return rep
		case ok && to.ip.IsValid() && r.state.contains(to.ip.Addr()):
			r.say(fmt.Sprintf("%s is a 32-bit program: it does not reach Services by sendmsg(2), only by connect(2) and sendto(2)", r.name(n)))
			return failed(unix.EACCES)
		}
	}
	return proceed
}
