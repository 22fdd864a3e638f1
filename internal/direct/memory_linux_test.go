//go:build amd64 || arm64

package direct

import (
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzParseAddress checks that whatever a program gives as an address is read,
// and that one of IPv4 or IPv6 is written as it was meant.
func FuzzParseAddress(f *testing.F) {
	f.Add([]byte{2, 0, 0, 80, 10, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(append([]byte{10, 0, 0, 80, 0, 0, 0, 0}, make([]byte, 20)...))
	f.Add([]byte("\x01\x00/run/nscd/socket\x00"))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		a := parseAddress(b)
		if !a.ip.IsValid() || a.family == unix.AF_UNSPEC {
			return
		}
		again := parseAddress(sockaddrBytes(a.family, a.ip))
		if again != a {
			t.Errorf("%+v is written as %+v", a, again)
		}
		if family, ip := addrPortOf(a.sockaddr(a.ip)); family != a.family || ip != a.ip {
			t.Errorf("%+v is given to the kernel as %v", a, ip)
		}
	})
}
