package dns

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var sameAddrPort = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func TestParseNameservers(t *testing.T) {
	const text = "# nameserver 192.0.2.1\n" +
		"search example.com\n" +
		"nameserver 192.0.2.2\n" +
		"  nameserver\t2001:db8::1   \n" +
		"nameserver\n" +
		"nameserver example.com\n" +
		"options ndots:5\n" +
		"nameserver fe80::1%eth0\r\n" +
		"nameserver 192.0.2.4"
	want := []netip.AddrPort{
		netip.MustParseAddrPort("192.0.2.2:53"), netip.MustParseAddrPort("[2001:db8::1]:53"),
		netip.MustParseAddrPort("[fe80::1%eth0]:53"),
	}
	if diff := cmp.Diff(want, parseNameservers(text), sameAddrPort); diff != "" {
		t.Errorf("nameservers (-want +got):\n%s", diff)
	}
}

func TestParseSearch(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
	}{
		{"nameserver 192.0.2.1\n", nil},
		{"search corp.example lab.example\nsearch\n", []string{"corp.example", "lab.example"}},
		{"search corp.example\noptions ndots:5\ndomain\tlast.example \r\n", []string{"last.example"}},
		{"search " + strings.Repeat("x ", 40), slices.Repeat([]string{"x"}, maxSearch)},
	} {
		if diff := cmp.Diff(test.want, parseSearch(test.text), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("search list of %q (-want +got):\n%s", test.text, diff)
		}
	}
}

// FuzzResolvConf reads any file: its lists are bounded and usable.
func FuzzResolvConf(f *testing.F) {
	f.Add("nameserver 192.0.2.1\nnameserver ::1\nsearch a b\ndomain c\n")
	f.Fuzz(func(t *testing.T, text string) {
		servers, search := parseNameservers(text), parseSearch(text)
		if len(servers) > maxUpstreams || len(search) > maxSearch {
			t.Errorf("%d nameservers and %d domains", len(servers), len(search))
		}
		for _, s := range servers {
			if !s.IsValid() || s.Addr().Is4In6() {
				t.Errorf("nameserver %v", s)
			}
		}
	})
}

func TestResolvConfIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	put := func(text string) {
		t.Helper()
		// As those who write it do: a new file in place of the old.
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		conf := NewResolvConf(path)
		check := func(about string, want ...netip.AddrPort) {
			t.Helper()
			if diff := cmp.Diff(want, conf.Upstreams(), sameAddrPort); diff != "" {
				t.Errorf("%s (-want +got):\n%s", about, diff)
			}
		}
		one, two := netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("192.0.2.2:53")
		check("no file")
		put("nameserver 192.0.2.1\n")
		check("within a second: not looked at")
		time.Sleep(statEvery)
		check("a new file", one)
		put("nameserver 192.0.2.2\n")
		time.Sleep(statEvery)
		check("a changed file", two)
		if err := os.WriteFile(path, []byte("nameserver 192.0.2.1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(statEvery)
		check("the same file with other text", one)
		os.Remove(path)
		time.Sleep(statEvery)
		check("a file that is gone", one)
	})
}
