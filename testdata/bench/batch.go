//go:build linux

package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// A batch is memory for many datagrams, which recvmmsg and sendmmsg move in one
// call.
type batch struct {
	messages []message
	vectors  []unix.Iovec
	names    []unix.RawSockaddrInet4
	buf      []byte
	size     int
}

// message is struct mmsghdr (recvmmsg(2)).
type message struct {
	header unix.Msghdr
	length uint32
}

// newBatch returns memory for n datagrams of up to a size. With names it keeps
// who sent them, and sends them back there.
func newBatch(n, size int, names bool) *batch {
	b := &batch{
		messages: make([]message, n), vectors: make([]unix.Iovec, n), buf: make([]byte, n*size), size: size,
		names: make([]unix.RawSockaddrInet4, n),
	}
	for i := range b.messages {
		b.vectors[i].Base = &b.buf[i*size]
		b.vectors[i].SetLen(size)
		header := &b.messages[i].header
		header.Iov = &b.vectors[i]
		header.SetIovlen(1)
		if names {
			header.Name = (*byte)(unsafe.Pointer(&b.names[i]))
			header.Namelen = unix.SizeofSockaddrInet4
		}
	}
	return b
}

// receive returns how many datagrams there were, and 0 if none.
func (b *batch) receive(fd int) int { return b.call(unix.SYS_RECVMMSG, fd, len(b.messages)) }

// send returns how many of the first n datagrams have left.
func (b *batch) send(fd, n int) int { return b.call(unix.SYS_SENDMMSG, fd, n) }

// sendBack answers each of the first n datagrams with itself.
func (b *batch) sendBack(fd, n int) {
	for i := range n {
		b.vectors[i].SetLen(int(b.messages[i].length))
	}
	b.send(fd, n)
	for i := range n {
		b.vectors[i].SetLen(b.size)
		b.messages[i].header.Namelen = unix.SizeofSockaddrInet4
	}
}

// call leaves the processor to others when there are any: so much takes time.
func (b *batch) call(call uintptr, fd, n int) int {
	done, _, errno := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&b.messages[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(done)
}
