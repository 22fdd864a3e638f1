// Package sockdiag asks the Linux kernel about TCP sockets: about those that
// there are, and about each that ends, when it ends. It needs no privilege, and
// sees the sockets of all users of its network namespace (sock_diag(7)).
package sockdiag

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// A State is how far a TCP connection has come, as the kernel counts them.
type State uint8

// The states that make a difference to somebody.
const (
	Established State = 1
	SynSent     State = 2
	FinWait1    State = 4
	FinWait2    State = 5
	TimeWait    State = 6
	Closed      State = 7
	CloseWait   State = 8
	LastAck     State = 9
	Listening   State = 10
	Closing     State = 11
)

// PeerEnded reports whether all that the peer sends has come, its FIN too.
func (s State) PeerEnded() bool {
	return s == CloseWait || s == LastAck || s == Closing || s == TimeWait
}

// A Pair is the two ends of a connection. IPv4-mapped addresses are IPv4.
type Pair struct{ Local, Remote netip.AddrPort }

// Reversed returns the same connection as its other end sees it.
func (p Pair) Reversed() Pair { return Pair{p.Remote, p.Local} }

// A Socket is what the kernel says about a TCP socket.
type Socket struct {
	Cookie uint64 // SO_COOKIE
	State  State  // Closed when it has ended
	Pair
	Unread uint32 // bytes that have come and wait, a FIN is one of them

	// The rest is there if Counted: of a socket that waits out its time
	// (TimeWait) the kernel keeps nothing.
	Counted  bool
	RTT      time.Duration
	Retrans  uint32 // segments sent again, SYN included
	Segments uint32 // that have come

	acked, received, sent, resent uint64
}

// Answered reports whether the peer has ever acknowledged anything, as the SYN
// of one that was connected.
func (s *Socket) Answered() bool { return s.acked > 0 }

// Sent returns how many bytes of the program the peer of a socket that has
// connected has acknowledged. The kernel counts sequence numbers: a SYN and a
// FIN are one each.
func (s *Socket) Sent() uint64 { return min(max(s.acked, 1)-1, s.Given()) }

// Given returns how many bytes of the program were sent, once or more often:
// those that came out at the other end, and perhaps some that did not.
func (s *Socket) Given() uint64 { return s.sent - min(s.resent, s.sent) }

// Received returns how many sequence numbers have come in order: as many as
// bytes, and one more if a FIN was among them.
func (s *Socket) Received() uint64 { return s.received }

// Sizes and offsets of linux/inet_diag.h, linux/netlink.h and linux/tcp.h.
const (
	headerLen = 16 // struct nlmsghdr
	diagLen   = 72 // struct inet_diag_msg
	attrLen   = 4  // struct nlattr

	typeDone     = 3
	typeError    = 2
	typeByFamily = 20

	familyIPv4 = 2
	familyIPv6 = 10

	attrInfo = 2 // INET_DIAG_INFO

	infoRTT       = 68
	infoRetrans   = 100
	infoAcked     = 120
	infoReceived  = 128
	infoSegments  = 140
	infoSent      = 200
	infoResent    = 208
	infoCounted   = 136 // without what came later the rest is 0
	infoLastKnown = 216
)

// A message is one of a datagram.
type message struct {
	kind uint16
	body []byte
}

// cut returns the first message of a datagram and what follows it, and false if
// there is none.
func cut(b []byte) (m message, rest []byte, ok bool) {
	if len(b) < headerLen {
		return message{}, nil, false
	}
	n := int(binary.NativeEndian.Uint32(b))
	if n < headerLen || n > len(b) {
		return message{}, nil, false
	}
	return message{binary.NativeEndian.Uint16(b[4:]), b[headerLen:n]}, b[min(align(n), len(b)):], true
}

func align(n int) int { return (n + 3) &^ 3 }

// parse reads a struct inet_diag_msg and the attributes after it. It returns
// false if that is not what b is.
func parse(b []byte) (s Socket, ok bool) {
	if len(b) < diagLen {
		return s, false
	}
	s.State = State(b[1])
	if s.Local, ok = parseAddress(b[0], b[8:24], b[4:6]); !ok {
		return s, false
	}
	s.Remote, _ = parseAddress(b[0], b[24:40], b[6:8])
	s.Cookie = uint64(binary.NativeEndian.Uint32(b[44:])) | uint64(binary.NativeEndian.Uint32(b[48:]))<<32
	s.Unread = binary.NativeEndian.Uint32(b[56:])
	for b = b[diagLen:]; len(b) >= attrLen; {
		n := int(binary.NativeEndian.Uint16(b))
		if n < attrLen || n > len(b) {
			break
		}
		if binary.NativeEndian.Uint16(b[2:]) == attrInfo {
			s.parseInfo(b[attrLen:n])
		}
		b = b[min(align(n), len(b)):]
	}
	return s, true
}

func parseAddress(family uint8, addr, port []byte) (netip.AddrPort, bool) {
	p := binary.BigEndian.Uint16(port)
	switch family {
	case familyIPv4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr)), p), true
	case familyIPv6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(addr)).Unmap(), p), true
	}
	return netip.AddrPort{}, false
}

// parseInfo reads a struct tcp_info, which is longer with each kernel.
func (s *Socket) parseInfo(b []byte) {
	if len(b) < infoCounted {
		return
	}
	var info [infoLastKnown]byte
	known := copy(info[:], b)
	s.Counted = true
	s.RTT = time.Duration(binary.NativeEndian.Uint32(info[infoRTT:])) * time.Microsecond
	s.Retrans = binary.NativeEndian.Uint32(info[infoRetrans:])
	s.acked = binary.NativeEndian.Uint64(info[infoAcked:])
	s.received = binary.NativeEndian.Uint64(info[infoReceived:])
	s.Segments = binary.NativeEndian.Uint32(info[infoSegments:])
	s.sent = binary.NativeEndian.Uint64(info[infoSent:])
	s.resent = binary.NativeEndian.Uint64(info[infoResent:])
	if known < infoLastKnown { // before Linux 4.19
		s.sent = s.acked
	}
}
