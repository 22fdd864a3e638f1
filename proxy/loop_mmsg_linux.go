package proxy

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many datagrams one call receives or sends.
	batchSize = 64

	// slotSize is the distance of two buffers: not a power of two, so that the
	// beginnings of all of them do not fall on the same lines of the cache.
	slotSize = 1<<16 + 2112

	// maxSegments and maxSegmented bound what one call sends as datagrams of
	// equal size (UDP_SEGMENT), in number and in bytes.
	maxSegments  = 60
	maxSegmented = 64000
)

// A message is a struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
	_      uint32
}

// A segmentSize is a control message that says into which sizes a datagram is
// cut, on sending (UDP_SEGMENT), or was joined from, on receiving (UDP_GRO).
type segmentSize struct {
	header unix.Cmsghdr
	size   int32
	_      int32
}

const segmentSizeLen = unix.SizeofCmsghdr + 4

// A batch has the memory of up to batchSize datagrams.
type batch struct {
	messages [batchSize]message
	vectors  [batchSize]unix.Iovec
	names    [batchSize]unix.RawSockaddrInet6
	segments [batchSize]segmentSize
	buffers  []byte
}

func newBatch() *batch {
	b := &batch{buffers: make([]byte, batchSize*slotSize)}
	for i := range b.messages {
		b.vectors[i].Base = &b.buffers[i*slotSize]
		b.reset(i)
	}
	return b
}

// reset makes a place ready to receive a datagram with its sender.
func (b *batch) reset(i int) {
	h := &b.messages[i].header
	h.Iov, h.Iovlen = &b.vectors[i], 1
	h.Name, h.Namelen = (*byte)(unsafe.Pointer(&b.names[i])), unix.SizeofSockaddrInet6
	h.Control, h.Controllen = (*byte)(unsafe.Pointer(&b.segments[i])), uint64(unsafe.Sizeof(b.segments[i]))
	b.segments[i].header.Type = 0
	b.vectors[i].Len = maxDatagram
}

// datagram returns what is in a place after receiving.
func (b *batch) datagram(i int) []byte {
	return b.buffers[i*slotSize : i*slotSize+int(b.messages[i].length)]
}

// sender returns whom a datagram is from, as an address and as a key.
func (b *batch) sender(i int, client *sockaddr) clientKey {
	client.raw, client.size = b.names[i], b.messages[i].header.Namelen
	key := clientKey{port: client.port()}
	if client.raw.Family == unix.AF_INET {
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(&client.raw))
		key.low = uint64(binary.NativeEndian.Uint32(in.Addr[:]))
		return key
	}
	key.high = binary.NativeEndian.Uint64(client.raw.Addr[:8])
	key.low = binary.NativeEndian.Uint64(client.raw.Addr[8:])
	return key
}

// joined returns the size of the datagrams that the kernel has joined in a
// place, or 0 when there is one.
func (b *batch) joined(i int) int {
	s := &b.segments[i]
	if b.messages[i].header.Controllen < segmentSizeLen || s.header.Level != unix.SOL_UDP || s.header.Type != unix.UDP_GRO {
		return 0
	}
	size := int(s.size & 0xffff)
	if size >= int(b.messages[i].length) {
		return 0
	}
	return size
}

// receive fills the batch from its beginning: with one datagram, or with all
// that there are.
func (b *batch) receive(fd int32, all bool) (int, syscall.Errno) {
	if all {
		return rawCall(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.messages)), batchSize, unix.MSG_DONTWAIT, 0, 0)
	}
	n, errno := rawCall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.messages[0].header)), unix.MSG_DONTWAIT, 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	b.messages[0].length = uint32(n)
	return 1, 0
}

// send sends the places from the first to before end. Those that fail are
// dropped, as any network may do; it returns how many.
func (b *batch) send(fd int32, end int) (dropped int) {
	if end == 1 {
		_, errno := rawCall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.messages[0].header)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0, 0)
		if errno != 0 {
			dropped++
		}
		return dropped
	}
	for i := 0; i < end; {
		n, errno := rawCall(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.messages[i])), uintptr(end-i), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno != 0 || n == 0 {
			dropped++
			i++
			continue
		}
		i += n
	}
	return dropped
}

// A gather sends several datagrams of one size to a connected socket by one
// call.
type gather struct {
	header  unix.Msghdr
	vectors [maxSegments]unix.Iovec
	segment segmentSize
}

// send sends the first n vectors, as datagrams of size bytes each; the last may
// be shorter.
func (g *gather) send(fd int32, n, size int) syscall.Errno {
	g.segment = segmentSize{
		header: unix.Cmsghdr{Len: unix.SizeofCmsghdr + 2, Level: unix.SOL_UDP, Type: unix.UDP_SEGMENT}, size: int32(size),
	}
	g.header = unix.Msghdr{
		Iov: &g.vectors[0], Iovlen: uint64(n),
		Control: (*byte)(unsafe.Pointer(&g.segment)), Controllen: uint64(unsafe.Sizeof(g.segment)),
	}
	_, errno := rawCall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&g.header)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0, 0)
	return errno
}
