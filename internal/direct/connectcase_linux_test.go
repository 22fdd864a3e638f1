//go:build amd64 || arm64

package direct

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func init() { clients["connects"] = connectsMain }

// connectsMain connects a new socket to an address in every way, and prints
// what a program can see of it, a line each: connects ADDRESS WAY...
func connectsMain(args []string) {
	to := netip.MustParseAddrPort(args[0])
	for _, way := range args[1:] {
		fmt.Printf("%s: %s\n", way, connectOnce(to, way))
	}
}

// connectOnce connects once. A way is words joined by "+".
func connectOnce(to netip.AddrPort, way string) string {
	words := strings.Split(way, "+")
	if way == "ready" {
		return "yes"
	}
	has := func(word string) bool { return slices.Contains(words, word) }
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, way, err)
			os.Exit(1)
		}
	}
	family, flags, protocol := unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0
	if has("mapped") || to.Addr().Is6() {
		family = unix.AF_INET6
	}
	sa := sockaddr(family, to)
	if has("nonblock") {
		flags |= unix.SOCK_NONBLOCK
	}
	if has("mptcp") {
		protocol = unix.IPPROTO_MPTCP
	}
	fd, err := unix.Socket(family, flags, protocol)
	must(err)
	defer unix.Close(fd)
	if has("bound") {
		must(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	}
	if has("timeout") {
		must(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Usec: 150_000}))
	}
	if has("fastopen") {
		must(unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_FASTOPEN_CONNECT, 1))
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	must(err)
	defer unix.Close(ep)
	register := func() {
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: 1}
		must(unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &ev))
	}
	if has("before") {
		register()
	}
	start := time.Now()
	seen := []string{"connect " + name(unix.Connect(fd, sa))}
	if took := time.Since(start); has("timeout") {
		seen = append(seen, fmt.Sprint("waited ", took > 140*time.Millisecond && took < 2*time.Second))
	}
	if has("after") {
		register()
	}
	if has("before") || has("after") {
		seen = append(seen, "events "+events(ep, has("silent")))
	}
	if has("error") {
		v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		must(err)
		seen = append(seen, "SO_ERROR "+name(unix.Errno(v)))
	}
	for range 3 {
		if has("again") {
			seen = append(seen, "again "+name(unix.Connect(fd, sa)))
		}
	}
	flagsAfter, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	must(err)
	seen = append(seen, fmt.Sprint("nonblock ", flagsAfter&unix.O_NONBLOCK != 0))
	if has("disconnect") {
		seen = append(seen, "unspec "+name(unspec(fd)), "then "+name(unix.Connect(fd, sa)))
	}
	return strings.Join(seen, ", ")
}

// unspec dissolves the association of a socket.
func unspec(fd int) error {
	if errno := rawConnect(fd, noPeer); errno != 0 {
		return errno
	}
	return nil
}

// events returns those that epoll reports once the first has come.
func events(ep int, silent bool) string {
	timeout := 5000
	if silent {
		timeout = 50
	}
	var list [1]unix.EpollEvent
	n, err := unix.EpollWait(ep, list[:], timeout)
	if n != 1 || err != nil {
		return fmt.Sprint("none ", name(err))
	}
	var names []string
	for _, bit := range []struct {
		bit  uint32
		name string
	}{{unix.EPOLLIN, "in"}, {unix.EPOLLOUT, "out"}, {unix.EPOLLERR, "err"}, {unix.EPOLLHUP, "hup"}, {unix.EPOLLRDHUP, "rdhup"}} {
		if list[0].Events&bit.bit != 0 {
			names = append(names, bit.name)
		}
	}
	return strings.Join(names, "|")
}

func name(err error) string {
	errno, ok := err.(unix.Errno)
	if err == nil || ok && errno == 0 {
		return "0"
	}
	return unix.ErrnoName(errno)
}
