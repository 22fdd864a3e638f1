//go:build amd64 || arm64

package direct

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const (
	sizeofMsghdr  = 56 // of a struct msghdr
	sizeofMmsghdr = 64 // of a struct mmsghdr: one with the length of what was moved
	offNamelen    = 8
	offControllen = 40
	offMsgFlags   = 48
	offMsgLen     = sizeofMsghdr

	maxMessages = 1024 // of one call; the kernel looks at no more (UIO_MAXIOV)
	maxSegments = 1024 // of one message (UIO_MAXIOV)
	maxDatagram = 1 << 16
	maxControl  = 1 << 16 // more than the kernel takes (net.core.optmem_max)
)

// A header is what a program says of a message (struct msghdr).
type header struct {
	at         uint64 // where it is
	name       uint64
	nameLength uint32
	segments   uint64
	count      uint64
	control    uint64
	controlLen uint64
}

// parseHeader reads a struct msghdr, of which b has all bytes.
func parseHeader(at uint64, b []byte) header {
	word := binary.NativeEndian.Uint64
	return header{
		at: at, name: word(b), nameLength: binary.NativeEndian.Uint32(b[offNamelen:]),
		segments: word(b[16:]), count: word(b[24:]), control: word(b[32:]), controlLen: word(b[offControllen:]),
	}
}

// header reads the struct msghdr at an address.
func (n *notification) header(at uint64) (header, error) {
	var b [sizeofMsghdr]byte
	err := n.read(at, b[:])
	return parseHeader(at, b[:]), err
}

// headers reads the first of an array of struct mmsghdr.
func (n *notification) headers(at uint64, count int) ([]header, error) {
	b := make([]byte, count*sizeofMmsghdr)
	if err := n.read(at, b); err != nil {
		return nil, err
	}
	list := make([]header, count)
	for i := range list {
		offset := i * sizeofMmsghdr
		list[i] = parseHeader(at+uint64(offset), b[offset:offset+sizeofMsghdr])
	}
	return list, nil
}

// tellLengths writes how long the first messages of an array of struct mmsghdr
// were, and returns the reply to their call: how many there were.
func (n *notification) tellLengths(lengths []int) reply {
	for i, length := range lengths {
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], uint32(length))
		if n.write(n.Args[1]+uint64(i)*sizeofMmsghdr+offMsgLen, b[:]) != nil {
			return failed(unix.EFAULT)
		}
	}
	return reply{value: int64(len(lengths))}
}

// parts returns where a message is in the memory of the caller.
func (n *notification) parts(h *header) ([]segment, error) {
	if h.count > maxSegments {
		return nil, unix.EMSGSIZE
	}
	b := make([]byte, 16*h.count)
	if err := n.read(h.segments, b); err != nil {
		return nil, err
	}
	list := make([]segment, h.count)
	for i := range list {
		list[i] = segment{binary.NativeEndian.Uint64(b[16*i:]), binary.NativeEndian.Uint64(b[16*i+8:])}
	}
	return list, nil
}

// content returns the bytes of segments, which have to fit into a datagram.
func (n *notification) content(segments []segment) ([]byte, error) {
	b := make([]byte, total(segments, maxDatagram))
	if len(b) == maxDatagram {
		return nil, unix.EMSGSIZE
	}
	return b, n.gather(segments, b)
}

// ancillary returns the control messages of a message.
func (n *notification) ancillary(h *header) ([]byte, error) {
	if h.control == 0 || h.controlLen == 0 {
		return nil, nil
	}
	if h.controlLen > maxControl {
		return nil, unix.ENOBUFS
	}
	b := make([]byte, h.controlLen)
	return b, n.read(h.control, b)
}
