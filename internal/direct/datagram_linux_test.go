//go:build amd64 || arm64

package direct

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() { clients["datagrams"], clients["chat"] = datagramsMain, chatMain }

// chatMain sends each line of its input from one socket, and prints what comes
// to a thread that waits for it all the time, or "lost" if nothing does; of the
// line "name" it prints the socket's own port: chat connect|dup|moved|to ADDRESS.
func chatMain(args []string) {
	to := netip.MustParseAddrPort(args[1])
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	peer := sockaddr(unix.AF_INET, to)
	if args[0] != "to" {
		if err := unix.Connect(fd, peer); err != nil {
			panic(err)
		}
		peer = nil
	}
	if args[0] == "dup" || args[0] == "moved" {
		first := fd
		if fd = 9; args[0] == "moved" {
			err = unix.Dup3(first, fd, unix.O_CLOEXEC)
		} else {
			fd, err = unix.Dup(first)
		}
		if err != nil {
			panic(err)
		}
		unix.Close(first)
	}
	answers := make(chan string)
	go func() {
		b := make([]byte, 64)
		for {
			n, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				panic(err)
			}
			answers <- string(b[:n])
		}
	}()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if lines.Text() == "name" {
			sa, _ := unix.Getsockname(fd)
			_, ip := addrPortOf(sa)
			fmt.Println(ip.Port())
			continue
		}
		if err := sendAs(fd, func(string) bool { return false }, peer, lines.Text()); err != nil {
			panic(err)
		}
		select {
		case answer := <-answers:
			fmt.Println(answer)
		case <-time.After(time.Second):
			fmt.Println("lost")
		}
	}
}

// datagramsMain sends a datagram to an address in every way, and prints what a
// program can see of it, a line each: datagrams ADDRESS WAY...
func datagramsMain(args []string) {
	to := netip.MustParseAddrPort(args[0])
	for _, way := range args[1:] {
		fmt.Printf("%s: %s\n", way, datagramOnce(to, way))
	}
}

// datagramOnce sends twice from one socket. A way is words joined by "+".
func datagramOnce(to netip.AddrPort, way string) string {
	words := strings.Split(way, "+")
	has := func(word string) bool { return slices.Contains(words, word) }
	family, kind := unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC
	if has("mapped") || to.Addr().Is6() {
		family = unix.AF_INET6
	}
	if has("nonblock") {
		kind |= unix.SOCK_NONBLOCK
	}
	fd, err := unix.Socket(family, kind, 0)
	if err != nil {
		return "socket " + name(err)
	}
	defer unix.Close(fd)
	if has("dup") {
		copied, err := unix.Dup(fd)
		if has("fcntl") {
			copied, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		}
		if err != nil {
			return "dup " + name(err)
		}
		unix.Close(fd)
		fd = copied
		defer unix.Close(fd)
	}
	timeout := unix.Timeval{Sec: 5}
	if has("silent") {
		timeout = unix.Timeval{Usec: 150_000}
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return name(err)
	}
	peer := sockaddr(family, to)
	if has("connect") {
		if err := unix.Connect(fd, peer); err != nil {
			return "connect " + name(err)
		}
		peer = nil
	}
	var seen []string
	for i := range 2 {
		if err := sendAs(fd, has, peer, fmt.Sprint("hello ", i)); err != nil {
			return strings.Join(append(seen, "send "+name(err)), ", ")
		}
		if has("unanswered") {
			return "sent"
		}
		if has("silent") {
			start := time.Now()
			_, _, err := receiveAs(fd, has)
			return fmt.Sprintf("%s, waited %v", name(err), time.Since(start) > 140*time.Millisecond)
		}
		if has("nonblock") {
			poll(fd, unix.POLLIN, 5000)
		}
		text, from, err := receiveAs(fd, has)
		if err != nil {
			return strings.Join(append(seen, "receive "+name(err)), ", ")
		}
		source := "nobody"
		if from != nil {
			_, ip := addrPortOf(from)
			source = fmt.Sprint("asked ", ip == to)
		}
		seen = append(seen, fmt.Sprintf("%q from %s", text, source))
	}
	return strings.Join(seen, ", ")
}

func sockaddr(family int, to netip.AddrPort) unix.Sockaddr {
	if family == unix.AF_INET6 {
		return &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
	}
	return &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
}

// sendAs sends text as the words of a way say.
func sendAs(fd int, has func(string) bool, to unix.Sockaddr, text string) error {
	switch {
	case has("unspec"):
		return sendUnspec(fd, to.(*unix.SockaddrInet4), text)
	case has("mmsg"):
		return sendTwo(fd, to, text)
	case has("msg"):
		half := len(text) / 2
		_, err := unix.SendmsgBuffers(fd, [][]byte{[]byte(text[:half]), []byte(text[half:])}, nil, to, 0)
		return err
	case to == nil:
		_, err := unix.Write(fd, []byte(text))
		return err
	}
	return unix.Sendto(fd, []byte(text), 0, to)
}

// sendUnspec names an address without a family, which is one of IPv4.
func sendUnspec(fd int, to *unix.SockaddrInet4, text string) error {
	sa := unix.RawSockaddrInet4{Port: uint16(to.Port)<<8 | uint16(to.Port)>>8, Addr: to.Addr}
	b := []byte(text)
	_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
		uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	if errno != 0 {
		return errno
	}
	return nil
}

// An mmsghdr is a struct mmsghdr.
type mmsghdr struct {
	unix.Msghdr
	length uint32
	_      [4]byte
}

// sendTwo sends two messages in one call. The answer to the first is not waited
// for: it says "first".
func sendTwo(fd int, to unix.Sockaddr, text string) error {
	texts := [][]byte{[]byte("first"), []byte(text)}
	var messages [2]mmsghdr
	var vectors [2]unix.Iovec
	for i := range messages {
		vectors[i].Base = &texts[i][0]
		vectors[i].SetLen(len(texts[i]))
		messages[i].Iov, messages[i].Iovlen = &vectors[i], 1
		if to != nil {
			family, ip := addrPortOf(to)
			raw := sockaddrBytes(family, ip)
			messages[i].Name, messages[i].Namelen = &raw[0], uint32(len(raw))
		}
	}
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages)), 2, 0, 0, 0)
	switch {
	case errno != 0:
		return errno
	case n != 2 || messages[0].length != 5 || int(messages[1].length) != len(text):
		return errors.New("not all was sent")
	}
	b := make([]byte, 64)
	for { // the answer to the first
		poll(fd, unix.POLLIN, 5000)
		m, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil || strings.HasSuffix(string(b[:m]), " first") {
			return err
		}
	}
}

// receiveAs receives as the words of a way say.
func receiveAs(fd int, has func(string) bool) (text string, from unix.Sockaddr, err error) {
	b := make([]byte, 64)
	var n int
	switch {
	case has("mmsg"):
		return receiveMany(fd)
	case has("msg"):
		var flags int
		n, _, flags, from, err = unix.RecvmsgBuffers(fd, [][]byte{b[:3], b[3:]}, make([]byte, 64), 0)
		if flags != 0 {
			err = fmt.Errorf("flags %x", flags)
		}
	case has("connect"):
		n, err = unix.Read(fd, b)
	case has("trunc"):
		n, _, _, from, err = unix.RecvmsgBuffers(fd, [][]byte{b[:3]}, nil, unix.MSG_TRUNC)
	default:
		n, from, err = unix.Recvfrom(fd, b, 0)
	}
	if err != nil {
		return "", nil, err
	}
	return string(b[:n]), from, nil
}

// receiveMany has room for two messages, of which one comes.
func receiveMany(fd int) (text string, from unix.Sockaddr, err error) {
	var messages [2]mmsghdr
	var vectors [2]unix.Iovec
	var buffers [2][64]byte
	var raw [2]unix.RawSockaddrInet6
	for i := range messages {
		vectors[i].Base = &buffers[i][0]
		vectors[i].SetLen(64)
		messages[i].Iov, messages[i].Iovlen = &vectors[i], 1
		messages[i].Name, messages[i].Namelen = (*byte)(unsafe.Pointer(&raw[i])), uint32(unsafe.Sizeof(raw[i]))
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages)), 2, unix.MSG_WAITFORONE, 0, 0)
	if errno != 0 {
		return "", nil, errno
	}
	if n != 1 {
		return "", nil, errors.New("more than one")
	}
	name := unsafe.Slice((*byte)(unsafe.Pointer(&raw[0])), messages[0].Namelen)
	a := parseAddress(name)
	return string(buffers[0][:messages[0].length]), a.sockaddr(a.ip), nil
}

// udpBackend serves UDP on an address of loopback: it answers with its name and
// what came.
func udpBackend(t testing.TB, name, address string) string {
	t.Helper()
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo([]byte(name+" "+string(b[:n])), from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return c.LocalAddr().String()
}
