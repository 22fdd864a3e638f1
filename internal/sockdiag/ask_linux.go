package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// connected are the states of sockets that have a peer, TIME_WAIT apart.
const connected = 1<<Established | 1<<SynSent | 1<<FinWait1 | 1<<FinWait2 | 1<<CloseWait | 1<<LastAck | 1<<Closing

// Dump calls found with each TCP socket of this network namespace that has a
// peer, which is there for as long as the call takes. One that comes or goes meanwhile may be among them or not.
func Dump(found func(*Socket)) error {
	fd, err := open()
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
	if err := send(fd, request(nil, family, unix.NLM_F_DUMP, Pair{})); err != nil {
		return err
	}
	buf, s := make([]byte, 64<<10), new(Socket)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if last, err := sockets(buf[:n], s, found); last || err != nil {
			return err
		}
	}
}

// manyAtOnce is how many sockets the kernel is asked for in one message: there
// is room for the answers.
const manyAtOnce = 32

// Find calls found with the TCP socket of each Pair, if there is one that has
// not ended. For a few that costs less than Dump, which looks at all that there
// are. One that is bound to a device is not found (SO_BINDTODEVICE). The Socket
// is there for as long as the call takes.
func Find(pairs []Pair, found func(*Socket)) error {
	fd, err := open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, 16<<10)
	for some := range slices.Chunk(pairs, manyAtOnce) {
		if err := findSome(fd, buf, some, found); err != nil {
			return fmt.Errorf("look for TCP sockets: %w", err)
		}
	}
	return nil
}

func findSome(fd int, buf []byte, pairs []Pair, found func(*Socket)) error {
	asked := make(map[Pair]bool, len(pairs))
	var requests []byte
	for _, p := range pairs {
		if !p.Local.IsValid() || !p.Remote.IsValid() || asked[p] {
			continue
		}
		asked[p] = true
		family := uint8(familyIPv6)
		if p.Local.Addr().Is4() {
			family = familyIPv4
		}
		requests = request(requests, family, 0, p)
	}
	if len(requests) == 0 {
		return nil
	}
	if err := send(fd, requests); err != nil {
		return err
	}
	for answers := 0; answers < len(asked); {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		for m, rest, ok := cut(buf[:n]); ok; m, rest, ok = cut(rest) {
			answers++
			if m.kind != typeByFamily {
				continue // there is none
			}
			// The kernel may have looked for who listens, too.
			if s, ok := parse(m.body); ok && asked[s.Pair] && connected&(1<<s.State) != 0 {
				found(&s)
			}
		}
	}
	return nil
}

// request appends one to a message: for the socket of a Pair or, with
// NLM_F_DUMP, for all of a family.
func request(b []byte, family uint8, flags uint16, p Pair) []byte {
	const (
		length = headerLen + 8 + 48 // struct inet_diag_req_v2
		id     = 8                  // struct inet_diag_sockid
		anyone = 1<<32 - 1          // INET_DIAG_NOCOOKIE
	)
	b = binary.NativeEndian.AppendUint32(b, length)
	b = binary.NativeEndian.AppendUint16(b, typeByFamily)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = append(b, make([]byte, length-8)...)
	body := b[len(b)-length+headerLen:]
	body[0], body[1] = family, unix.IPPROTO_TCP
	body[2] = 1 << (attrInfo - 1)
	binary.NativeEndian.PutUint32(body[4:], connected)
	binary.BigEndian.PutUint16(body[id:], p.Local.Port())
	binary.BigEndian.PutUint16(body[id+2:], p.Remote.Port())
	copy(body[id+4:], p.Local.Addr().AsSlice())
	copy(body[id+20:], p.Remote.Addr().AsSlice())
	binary.NativeEndian.PutUint32(body[id+40:], anyone)
	binary.NativeEndian.PutUint32(body[id+44:], anyone)
	return b
}

func send(fd int, b []byte) error {
	return unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}
