//go:build amd64 || arm64

package direct

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() { clients["storm"] = stormMain }

// handleSignal makes SIGUSR1 one that has a handler. Go's begins calls again;
// without restart it no longer does.
func handleSignal(restart bool) <-chan os.Signal {
	handled := make(chan os.Signal, 1)
	signal.Notify(handled, unix.SIGUSR1)
	if restart {
		return handled
	}
	var action struct {
		handler, flags, restorer uintptr
		mask                     uint64
	}
	const beginAgain = 0x10000000 // SA_RESTART
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGUSR1), 0, uintptr(unsafe.Pointer(&action)), 8, 0, 0)
	if errno == 0 {
		action.flags &^= beginAgain
		_, _, errno = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGUSR1), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	}
	if errno != 0 {
		panic(errno)
	}
	return handled
}

// stormMain connects at least N times, or asks N times in datagrams, while
// signals come all the time to the thread that does, one for ten of them at
// least. It prints how often that went well, how often a call failed with EINTR,
// how many signals there were, and everything else that happened:
// storm connect|datagram restart|fail N ADDRESS.
func stormMain(args []string) {
	handleSignal(args[1] == "restart")
	n, _ := strconv.Atoi(args[2])
	to := netip.MustParseAddrPort(args[3])
	runtime.LockOSThread()
	thread := unix.Gettid()
	var done atomic.Bool
	var wg sync.WaitGroup
	var sent atomic.Int64
	wg.Go(func() {
		for !done.Load() {
			_ = unix.Tgkill(os.Getpid(), thread, unix.SIGUSR1)
			sent.Add(1)
			time.Sleep(100 * time.Microsecond)
		}
	})
	good, interrupts := 0, 0
	others := map[string]int{}
	once := stormConnect
	if args[0] == "datagram" {
		once = stormDatagram
	}
	for good < n || sent.Load() < int64(n/10) {
		switch calls, err := once(to); {
		case err == nil:
			good++
			interrupts += calls
		case errors.Is(err, unix.EINTR):
			interrupts++
		default:
			others[err.Error()]++
			good++
		}
	}
	done.Store(true)
	wg.Wait()
	fmt.Println(good, interrupts, sent.Load(), others)
}

// stormConnect connects a new socket and reads the first byte of the backend.
func stormConnect(to netip.AddrPort) (interrupts int, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	sa := sockaddrBytes(unix.AF_INET, to)
	if _, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa[0])), uintptr(len(sa))); errno != 0 {
		return 0, errno
	}
	var b [1]byte
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b)), 1)
		switch {
		case errno == unix.EINTR: // the socket's own, without usher too
			continue
		case errno != 0:
			return interrupts, errno
		case n != 1:
			return interrupts, errors.New("the connection has ended")
		}
		return interrupts, nil
	}
}

// stormSocket is the one of stormDatagram, and stormNumber the last number that
// it has sent.
var stormSocket, stormNumber = -1, 0

// stormDatagram sends a number and receives it again. A call that fails with
// EINTR is made again; a number that comes twice, or not, is an error.
func stormDatagram(to netip.AddrPort) (interrupts int, err error) {
	if stormSocket < 0 {
		if stormSocket, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return 0, err
		}
	}
	stormNumber++
	text, sa := fmt.Append(nil, stormNumber), sockaddrBytes(unix.AF_INET, to)
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(stormSocket), uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)), 0,
			uintptr(unsafe.Pointer(&sa[0])), uintptr(len(sa)))
		if errno == 0 {
			break
		}
		if errno != unix.EINTR {
			return interrupts, errno
		}
		interrupts++
	}
	var b [64]byte
	var from unix.RawSockaddrInet4
	for {
		size := uint32(unsafe.Sizeof(from))
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(stormSocket), uintptr(unsafe.Pointer(&b)), uintptr(len(b)), 0,
			uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)))
		switch want := "a " + string(text); {
		case errno == unix.EINTR:
			interrupts++
			continue
		case errno != 0:
			return interrupts, errno
		case string(b[:n]) != want:
			return interrupts, fmt.Errorf("%q in the place of %q", b[:n], want)
		}
		return interrupts, nil
	}
}

// counter serves TCP: it says a byte to each connection, and counts them.
func counter(t *testing.T) (address string, count *atomic.Int64) {
	count = new(atomic.Int64)
	return serve(t, "127.0.0.1:0", func(c net.Conn) {
		count.Add(1)
		_, _ = c.Write([]byte("a"))
		c.Close()
	}), count
}

// TestSignalStorm lets signals come all the time to a thread that connects, or
// exchanges datagrams. With SA_RESTART it must see nothing of them; without,
// EINTR and nothing else; and no connection or datagram may be lost or doubled.
func TestSignalStorm(t *testing.T) {
	tcp, connections := counter(t)
	udp := udpBackend(t, "a", "127.0.0.1:0")
	w := newWorld(t, service("web", "10.96.0.7", 80, "TCP", tcp)+service("echo", "10.96.0.8", 80, "UDP", udp))
	for _, what := range []string{"connect", "datagram"} {
		for _, how := range []string{"restart", "fail"} {
			t.Run(what+" "+how, func(t *testing.T) {
				before := connections.Load()
				vip := map[string]string{"connect": "10.96.0.7:80", "datagram": "10.96.0.8:80"}[what]
				var good, interrupts, signals int64
				var others string
				text := output(t, w.client("storm", what, how, "2000", vip))
				if _, err := fmt.Sscan(text, &good, &interrupts, &signals, &others); err != nil {
					t.Fatal(text, err)
				}
				t.Logf("%d times EINTR by %d signals to %d calls", interrupts, signals, good)
				if others != "map[]" || how == "restart" && interrupts > 0 {
					t.Errorf("%d times EINTR, others %s", interrupts, text)
				}
				if what == "datagram" {
					return // the program has looked at the answers
				}
				until(t, "each connection arrives", func() bool { return connections.Load()-before >= good })
				if got := connections.Load() - before; got != good {
					t.Errorf("the backend had %d connections, the program %d", got, good)
				}
			})
		}
	}
}

// soak returns how often to repeat: USHER_SOAK times as often as usually.
func soak(t *testing.T, count int) int {
	t.Helper()
	if s := os.Getenv("USHER_SOAK"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("USHER_SOAK=%q: want a number", s)
		}
		return n * count
	}
	if testing.Short() {
		return count / 4
	}
	return count
}
