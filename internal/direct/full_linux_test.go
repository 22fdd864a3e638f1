//go:build amd64 || arm64

package direct

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func init() { clients["full"] = fullMain }

// fullMain sends more messages in one call than a socket has room for, and
// prints how many the kernel says have left, of which lengths, and whether that
// took a while: full ADDRESS WAY...
func fullMain(args []string) {
	to := netip.MustParseAddrPort(args[0])
	for _, way := range args[1:] {
		fmt.Printf("%s: %s\n", way, sendFull(to, way))
	}
}

// sendFull sends once. A way is words joined by "+".
func sendFull(to netip.AddrPort, way string) string {
	words := strings.Split(way, "+")
	has := func(word string) bool { return slices.Contains(words, word) }
	kind := unix.SOCK_DGRAM | unix.SOCK_CLOEXEC
	if has("nonblock") {
		kind |= unix.SOCK_NONBLOCK
	}
	fd, err := unix.Socket(unix.AF_INET, kind, 0)
	if err != nil {
		return name(err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1); err != nil { // the least
		return name(err)
	}
	if has("timeout") {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
			return name(err)
		}
	}
	const count = 3
	raw := sockaddrBytes(unix.AF_INET, to)
	var messages [count]mmsghdr
	var vectors [count]unix.Iovec
	var text [1200]byte
	for i := range messages {
		vectors[i].Base = &text[0]
		vectors[i].SetLen(1000 + i)
		messages[i].Iov, messages[i].Iovlen = &vectors[i], 1
		messages[i].Name, messages[i].Namelen = &raw[0], uint32(len(raw))
	}
	start := time.Now()
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages)), count, 0, 0, 0)
	took := time.Since(start)
	runtime.KeepAlive(&vectors)
	var lengths []uint32
	for _, m := range messages {
		lengths = append(lengths, m.length)
	}
	seen := fmt.Sprintf("%d %s, lengths %v", int(n), name(errno), lengths)
	if has("nonblock") {
		return seen
	}
	return fmt.Sprint(seen, ", waited ", took > 80*time.Millisecond)
}

// TestUDPFull checks what becomes of messages for which a socket has no room:
// those that a program waits for are sent, one after the other, and it is told
// the length of each; what a program does not wait for it is told, too.
func TestUDPFull(t *testing.T) {
	sentOutside(t) // skips where there are no devices
	// To each address once: the kernel tries for as long then.
	w := newWorld(t, service("a", "10.96.1.1", 80, "UDP", slowly(11))+service("b", "10.96.1.2", 80, "UDP", slowly(12))+
		service("c", "10.96.1.3", 80, "UDP", slowly(13)))
	for i, way := range []string{"block", "nonblock", "block+timeout"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			want := output(t, plain("full", slowly(21+i), way))
			got := output(t, w.client("full", fmt.Sprintf("10.96.1.%d:80", i+1), way))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-plain +translated):\n%s", diff)
			}
			t.Log(got)
		})
	}
}
