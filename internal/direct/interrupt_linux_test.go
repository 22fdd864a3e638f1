//go:build amd64 || arm64

package direct

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() { clients["interrupt"] = interruptMain }

// interruptMain makes a call that waits, on a thread that gets a signal 200 ms
// later. It prints "!" when the handler of that has run, and what became of the
// call at the end: interrupt connect|receive restart|fail endless|timeout IP PORT.
func interruptMain(args []string) {
	handled := handleSignal(args[1] == "restart")
	to := netip.MustParseAddrPort(args[3] + ":" + args[4])
	receives := args[0] == "receive"
	kind := unix.SOCK_STREAM
	if receives {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	if args[2] == "timeout" {
		for _, option := range []int{unix.SO_SNDTIMEO, unix.SO_RCVTIMEO} {
			_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &unix.Timeval{Sec: 60})
		}
	}
	if receives {
		if err := unix.Sendto(fd, []byte("x"), 0, sockaddr(unix.AF_INET, to)); err != nil {
			panic(err)
		}
	}
	threads, outcome := make(chan int), make(chan string)
	go func() {
		runtime.LockOSThread()
		threads <- unix.Gettid()
		outcome <- name(callThatWaits(fd, to, receives))
	}()
	thread := <-threads
	time.Sleep(200 * time.Millisecond)
	_ = unix.Tgkill(os.Getpid(), thread, unix.SIGUSR1)
	<-handled
	fmt.Println("!")
	fmt.Println(<-outcome)
}

// callThatWaits connects, or receives a datagram.
func callThatWaits(fd int, to netip.AddrPort, receives bool) unix.Errno {
	sa := sockaddrBytes(unix.AF_INET, to)
	if !receives {
		_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa[0])), uintptr(len(sa)))
		return errno
	}
	var b [64]byte
	size := uint32(len(sa))
	_, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b)), uintptr(len(b)), 0,
		uintptr(unsafe.Pointer(&sa[0])), uintptr(unsafe.Pointer(&size)))
	return errno
}

// interruptInC is the same of a program with one thread: the signal is the
// process's.
const interruptInC = `
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static void handle(int s) { (void)!write(1, "!\n", 2); }

int main(int argc, char **argv) {
	int receives = !strcmp(argv[1], "receive");
	struct sigaction a = {.sa_handler = handle, .sa_flags = strcmp(argv[2], "restart") ? 0 : SA_RESTART};
	sigaction(SIGALRM, &a, NULL);
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[5]))};
	inet_pton(AF_INET, argv[4], &to.sin_addr);
	int s = socket(AF_INET, receives ? SOCK_DGRAM : SOCK_STREAM, 0);
	if (!strcmp(argv[3], "timeout")) {
		struct timeval t = {60};
		setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
		setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	}
	if (receives) sendto(s, "x", 1, 0, (struct sockaddr *)&to, sizeof to);
	struct itimerval i = {.it_value.tv_usec = 200000};
	setitimer(ITIMER_REAL, &i, NULL);
	char b[64];
	socklen_t n = sizeof to;
	int r = receives ? recvfrom(s, b, sizeof b, 0, (struct sockaddr *)&to, &n) : connect(s, (struct sockaddr *)&to, n);
	puts(r >= 0 ? "0" : errno == EINTR ? "EINTR" : strerror(errno));
	return 0;
}
`

// TestInterrupted sends a signal to a program whose call waits. The handler has
// to run at once, and the call to go on or to fail, as it would without usher.
func TestInterrupted(t *testing.T) {
	newWorld(t, "") // skips where there is nothing to test
	inC := filepath.Join(t.TempDir(), "interrupt")
	build := exec.CommandContext(t.Context(), "cc", "-o", inC, "-x", "c", "-")
	build.Stdin = strings.NewReader(interruptInC)
	hasC := build.Run() == nil
	for _, call := range []string{"connect", "receive"} {
		for _, how := range []string{"restart endless", "fail endless", "restart timeout"} {
			for _, translated := range []bool{false, true} {
				for _, program := range []string{"thread", "process"} {
					t.Run(fmt.Sprint(call, " ", how, " ", program, " ", translated), func(t *testing.T) {
						if program == "process" && !hasC {
							t.Skip("SKIP: no C compiler")
						}
						t.Parallel()
						testInterrupted(t, append([]string{call}, strings.Fields(how)...), program == "process", inC, translated)
					})
				}
			}
		}
	}
}

func testInterrupted(t *testing.T, args []string, process bool, inC string, translated bool) {
	var address string
	var end func() // of the wait
	protocol := "TCP"
	if args[0] == "connect" {
		address, end = hole(t)
	} else {
		protocol = "UDP"
		address, end = mute(t)
	}
	ip, port, _ := net.SplitHostPort(address)
	if translated {
		ip, port = "10.96.1.1", "80"
	}
	w := newWorld(t, service("waits", "10.96.1.1", 80, protocol, address))
	args = append(args, ip, port)
	var cmd *exec.Cmd
	switch {
	case process && translated:
		cmd = w.usher(append([]string{inC}, args...)...)
	case process:
		cmd = exec.Command(inC, args...)
	case translated:
		cmd = w.client("interrupt", args...)
	default:
		cmd = plain("interrupt", args...)
	}
	_, hear := interactive(t, cmd)
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if got := hear(); got != "!" {
		t.Fatalf("%s before the signal", got)
	}
	want := "EINTR"
	if args[1] == "restart" && args[2] == "endless" {
		want = "0"
		end()
	}
	if got := hear(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// hole returns an address at which connections wait until end is called.
func hole(t *testing.T) (address string, end func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	sa := &unix.SockaddrInet4{Addr: localhost.As4()}
	if err := unix.Bind(fd, sa); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	sa.Port = bound.(*unix.SockaddrInet4).Port
	for range 4 {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(c) })
		_ = unix.Connect(c, sa)
	}
	return fmt.Sprint("127.0.0.1:", sa.Port), func() { _ = unix.Listen(fd, 64) }
}

// mute returns the address of a backend that answers a datagram when end is
// called.
func mute(t *testing.T) (address string, end func()) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String(), func() {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, from, err := c.ReadFrom(make([]byte, 9))
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = c.WriteTo([]byte("x"), from)
	}
}
