//go:build amd64 || arm64

package direct

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func init() {
	clients["hand"], clients["handed"] = handMain, handedMain
	clients["apart"], clients["stranger"] = apartMain, strangerMain
	clients["hidden"] = hiddenMain
}

// handMain makes a UDP socket and gives it to a program in some way, which then
// sends to an address from it: hand ADDRESS WAY...
func handMain(args []string) {
	for _, way := range args[1:] {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			panic(err)
		}
		number := fd
		switch way {
		case "exec":
		case "moved", "moved connected":
			if way == "moved connected" {
				err = unix.Connect(fd, sockaddr(unix.AF_INET, netip.MustParseAddrPort(args[0])))
			}
			if number = 9; err == nil {
				err = unix.Dup3(fd, number, 0)
			}
			unix.Close(fd)
		case "rights":
			number, err = throughRights(fd)
			unix.Close(fd)
		}
		if err != nil {
			fmt.Printf("%s: %s\n", way, name(err))
			continue
		}
		fmt.Print(way, ": ")
		program, err := os.StartProcess("/proc/self/exe", []string{"handed", strconv.Itoa(number), args[0], way}, &os.ProcAttr{
			Env: append(os.Environ(), roleClient+"=handed"), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		})
		if err != nil {
			panic(err)
		}
		_, _ = program.Wait()
		unix.Close(number)
	}
}

// throughRights sends a descriptor through a unix socket and receives it.
func throughRights(fd int) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	if err := unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(fd), nil, 0); err != nil {
		return -1, err
	}
	b, control := make([]byte, 1), make([]byte, 64)
	_, n, _, _, err := unix.Recvmsg(pair[1], b, control, 0)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return -1, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	return fds[0], err
}

// handedMain sends from a socket that it was given: handed NUMBER ADDRESS WAY.
// What came through a unix socket has a low number, from which sendto(2) alone
// is translated.
func handedMain(args []string) {
	fd, _ := strconv.Atoi(args[0])
	to := netip.MustParseAddrPort(args[1])
	has := func(word string) bool {
		return word == "msg" && args[2] == "exec" || word == "connect" && args[2] == "moved connected"
	}
	peer := sockaddr(unix.AF_INET, to)
	if has("connect") {
		peer = nil
	}
	if err := sendAs(fd, has, peer, "hello"); err != nil {
		fmt.Println(name(err))
		return
	}
	text, _, err := receiveAs(fd, has)
	fmt.Println(text, name(err), fd >= lowestUDP)
}

// TestHandedOn checks what becomes of UDP sockets that change hands: those that
// would pass the filter by are not made, where that can be seen.
func TestHandedOn(t *testing.T) {
	w := newWorld(t, service("echo", "10.96.0.8", 80, "UDP", udpBackend(t, "a", "127.0.0.1:0")))
	before := sentOutside(t)
	stdout, stderr, code := run(t, w.client("hand", "10.96.0.8:80", "exec", "moved", "moved connected", "rights"))
	want := "exec: a hello 0 true\nmoved: EACCES\nmoved connected: a hello 0 false\nrights: a hello 0 false\n"
	if diff := cmp.Diff(want, stdout); diff != "" || code != 0 {
		t.Errorf("code %d (-want +got):\n%s", code, diff)
	}
	if !strings.Contains(stderr, "may not make a UDP socket its descriptor 9") {
		t.Errorf("errors %q", stderr)
	}
	if sent := sentOutside(t) - before; sent != 0 {
		t.Errorf("%d packets to the service range have left", sent)
	}
}

// apartMain starts a program in a network namespace of its own:
// apart VIP BACKEND.
func apartMain(args []string) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleClient+"=stranger")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Run(); err != nil {
		fmt.Println(err)
	}
}

// strangerMain serves the address of the backend in its own namespace, and then
// looks for the Service.
func strangerMain(args []string) {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", args[1])
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "a stranger")
			c.Close()
		}
	}()
	to := netip.MustParseAddrPort(args[0])
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		panic(err)
	}
	fmt.Println(ask("tcp", args[0]), name(unix.Sendto(fd, []byte("x"), 0, sockaddr(unix.AF_INET, to))), ask("tcp", args[1]))
}

// TestApart checks that a program in a network namespace of its own is not
// connected to whoever has the address of the backend there, and reaches all
// else that is there.
func TestApart(t *testing.T) {
	a := backend(t, "a", "127.0.0.1:0")
	w := newWorld(t, service("web", "10.96.0.7", 80, "TCP", a)+service("echo", "10.96.0.7", 80, "UDP", udpBackend(t, "b", "127.0.0.1:0")))
	stdout, stderr, _ := run(t, w.client("apart", "10.96.0.7:80", a))
	if strings.Contains(stdout, "fork/exec") {
		t.Skipf("SKIP: no namespaces in namespaces here: %s", stdout)
	}
	if want := "network is unreachable ENETUNREACH a stranger\n"; stdout != want || !strings.Contains(stderr, "is in a network namespace of its own") {
		t.Errorf("output %q, want %q; errors %q", stdout, want, stderr)
	}
}

// hiddenMain connects as a program that hides from debuggers: hidden ADDRESS.
func hiddenMain(args []string) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		panic(err)
	}
	fmt.Println(ask("tcp", args[0]))
}

// TestHidden checks that a program whose memory cannot be read is told so.
// Root can read it.
func TestHidden(t *testing.T) {
	w := newWorld(t, service("web", "10.96.0.7", 80, "TCP", backend(t, "a", "127.0.0.1:0")))
	stdout, stderr, code := run(t, w.client("hidden", "10.96.0.7:80"))
	if os.Geteuid() == 0 {
		if stdout != "a\n" || stderr != "" || code != 0 {
			t.Errorf("code %d, output %q, errors %q", code, stdout, stderr)
		}
		return
	}
	const why = "reaches nothing: its memory cannot be read (operation not permitted), as of a program that hides from debuggers\n" +
		"  it works with: usher exec --mode private\n"
	if stdout != "permission denied\n" || !strings.HasSuffix(stderr, why) || code != 0 {
		t.Errorf("code %d, output %q, errors %q", code, stdout, stderr)
	}
}

// TestWithoutPrivileges checks that the user of a setuid program is told why it
// is none, but for root, who needs no such program.
func TestWithoutPrivileges(t *testing.T) {
	w := newWorld(t, "")
	path, err := exec.LookPath("mount")
	if err != nil {
		t.Skipf("SKIP: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode()&os.ModeSetuid == 0 {
		t.Skipf("SKIP: %s is no setuid program here", path)
	}
	want := ""
	if os.Geteuid() != 0 {
		want = "usher: mount gains privileges when it starts, and not under usher exec, unless that has them already\n" +
			"  run usher itself with them:  sudo usher exec …\n"
	}
	if _, stderr, code := run(t, w.usher("mount", "--version")); stderr != want || code != 0 {
		t.Errorf("code %d, errors %q, want %q", code, stderr, want)
	}
	output(t, w.usher("true"))
}
