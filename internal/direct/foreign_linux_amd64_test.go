package direct

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// TestForeignFilter runs the filter on calls of a 32-bit program.
func TestForeignFilter(t *testing.T) {
	vm, err := bpf.NewVM(program(false))
	if err != nil {
		t.Fatal(err)
	}
	const notify, allow = unix.SECCOMP_RET_USER_NOTIF, unix.SECCOMP_RET_ALLOW
	for _, tt := range []struct {
		name   string
		number uint32
		args   [6]uint64
		want   uint32
	}{
		{"connect", 362, [6]uint64{3, 8, 16}, notify},
		{"what is connect in our ABI", unix.SYS_CONNECT, [6]uint64{3, 8, 16}, allow},
		{"sendto an address", 369, [6]uint64{3, 8, 1, 0, 8, 16}, notify},
		{"sendto a peer", 369, [6]uint64{3, 8, 1}, allow},
		{"sendmsg of UDP", 370, [6]uint64{lowestUDP, 8}, notify},
		{"sendmsg of TCP", 370, [6]uint64{3, 8}, allow},
		{"a UDP socket", 359, [6]uint64{unix.AF_INET, unix.SOCK_DGRAM}, notify},
		{"a TCP socket", 359, [6]uint64{unix.AF_INET, unix.SOCK_STREAM}, allow},
		{"dup2 of UDP to below", 63, [6]uint64{lowestUDP, 5}, notify},
		{"fcntl64 of UDP", 221, [6]uint64{lowestUDP, unix.F_DUPFD}, notify},
		{"io_uring_setup", 425, [6]uint64{8, 8}, noSys},
		{"connect by socketcall", 102, [6]uint64{3, 8}, notify},
		{"sendmsg by socketcall", 102, [6]uint64{16, 8}, notify},
		{"send by socketcall", 102, [6]uint64{9, 8}, allow},
		{"read", 3, [6]uint64{3, 8, 1}, allow},
	} {
		if got := verdict(t, vm, foreignArch, tt.number, tt.args); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
	}
}

// foreignInC is a program of 32 bits that needs no library. It reaches
// 10.96.1.1:80 over TCP and 10.96.1.2:80 over UDP, by the calls of its ABI and
// by socketcall(2), and a ClusterIP that is no Service's. It prints what comes
// back, or the errno.
const foreignInC = `
typedef unsigned u;
static int call(u n, u a, u b, u c, u d, u e, u f) {
	int r;
	u more[] = {a, f, n};
	__asm__ volatile("push %%ebp; mov 4(%%eax), %%ebp; mov (%%eax), %%ebx; mov 8(%%eax), %%eax; int $0x80; pop %%ebp"
		: "=a"(r) : "a"(more), "c"(b), "d"(c), "S"(d), "D"(e) : "ebx", "memory");
	return r;
}
static int many(u which, u a, u b, u c, u d, u e, u f) {
	u args[] = {a, b, c, d, e, f};
	return call(102, which, (u)args, 0, 0, 0, 0);
}
static void say(const char *s) { u n = 0; while (s[n]) n++; call(4, 1, (u)s, n, 0, 0, 0); }
static void result(const char *what, int fd, int r) {
	char b[64];
	say(what);
	if (r >= 0) {
		int n = call(3, fd, (u)b, 60, 0, 0, 0); // read
		if (n < 0) n = 0;
		if (n && b[n-1] == 10) n--;
		b[n] = 10, b[n+1] = 0;
	} else {
		b[0] = '-', b[1] = '0' - r / 100, b[2] = '0' + -r / 10 % 10, b[3] = '0' + -r % 10, b[4] = 10, b[5] = 0;
		b[1] = '0' + -r / 100;
	}
	say(b);
}
struct sockaddr { unsigned short family, port; u addr, zero[2]; };
static struct sockaddr web = {2, 0x5000, 0x0101600a}, echo = {2, 0x5000, 0x0201600a}, nobody = {2, 0x5000, 0x4d4d600a};
struct iovec { const void *base; u length; };
static struct iovec hi = {"hi", 2};
struct msghdr { void *name; u namelen; struct iovec *iov; u iovlen, control, controllen, flags; };

void _start(void) {
	__asm__ volatile("and $-16, %esp");
	int s = call(359, 2, 1, 0, 0, 0, 0);
	result("connect ", s, call(362, s, (u)&web, 16, 0, 0, 0));
	s = many(1, 2, 1, 0, 0, 0, 0);
	result("connect by socketcall ", s, many(3, s, (u)&web, 16, 0, 0, 0));
	s = call(359, 2, 1, 0, 0, 0, 0);
	result("nobody ", s, call(362, s, (u)&nobody, 16, 0, 0, 0));
	s = many(1, 2, 1, 0, 0, 0, 0);
	result("nobody by socketcall ", s, many(3, s, (u)&nobody, 16, 0, 0, 0));
	s = call(359, 2, 2, 0, 0, 0, 0);
	result("sendto ", s, call(369, s, (u)"hi", 2, 0, (u)&echo, 16));
	s = many(1, 2, 2, 0, 0, 0, 0);
	result("sendto by socketcall ", s, many(11, s, (u)"hi", 2, 0, (u)&echo, 16));
	struct msghdr m = {&echo, 16, &hi, 1};
	result("sendmsg ", s, call(370, s, (u)&m, 0, 0, 0, 0));
	result("sendmsg by socketcall ", s, many(16, s, (u)&m, 0, 0, 0, 0));
	result("move ", s, call(63, call(359, 2, 2, 0, 0, 0, 0), 9, 0, 0, 0, 0));
	call(1, 0, 0, 0, 0, 0, 0);
}
`

// TestForeign checks that a 32-bit program reaches Services, and that nothing
// of what it says to ClusterIPs leaves.
func TestForeign(t *testing.T) {
	w := newWorld(t, service("web", "10.96.1.1", 80, "TCP", backend(t, "a", "127.0.0.1:0"))+
		service("echo", "10.96.1.2", 80, "UDP", udpBackend(t, "b", "127.0.0.1:0")))
	path := filepath.Join(t.TempDir(), "foreign")
	build := exec.CommandContext(t.Context(), "cc", "-m32", "-nostdlib", "-static", "-ffreestanding", "-fno-pic", "-no-pie",
		"-fno-stack-protector", "-O1", "-o", path, "-x", "c", "-")
	build.Stdin = strings.NewReader(foreignInC)
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("SKIP: no compiler for 32 bits: %v: %s", err, out)
	}
	before := sentOutside(t)
	stdout, stderr, code := run(t, w.usher(path))
	if strings.Contains(stderr, unix.ENOEXEC.Error()) {
		t.Skipf("SKIP: this kernel runs no 32-bit programs: %s", stderr)
	}
	want := "connect a\nconnect by socketcall a\nnobody -111\nnobody by socketcall -111\n" +
		"sendto b hi\nsendto by socketcall b hi\nsendmsg -013\nsendmsg by socketcall -013\nmove -013\n"
	if stdout != want || code != 0 || !strings.Contains(stderr, "it does not reach Services by sendmsg(2)") {
		t.Errorf("code %d, output\n%s\nerrors\n%s\nwant\n%s", code, stdout, stderr, want)
	}
	if sent := sentOutside(t) - before; sent != 0 {
		t.Errorf("%d packets to the service range have left", sent)
	}
}
