package netenv

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/registry"
)

func TestResolvConf(t *testing.T) {
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("d%d.example", i))
	}
	const search = "search finance.svc.cluster.local svc.cluster.local cluster.local"
	tests := []struct {
		name, host string
		want       string
	}{
		{"empty", "", "nameserver 10.96.0.10\n" + search + "\noptions ndots:5\n"},
		{"host's nameservers and options are left out", "nameserver 127.0.0.53\nnameserver ::1\noptions edns0 trust-ad\n",
			"nameserver 10.96.0.10\n" + search + "\noptions ndots:5\n"},
		{"host's search path follows", "search corp.example lan\n",
			"nameserver 10.96.0.10\n" + search + " corp.example lan\noptions ndots:5\n"},
		{"domain", "domain corp.example\n", "nameserver 10.96.0.10\n" + search + " corp.example\noptions ndots:5\n"},
		{"the last one counts", "domain a\nsearch b c\ndomain d e\n", "nameserver 10.96.0.10\n" + search + " d\noptions ndots:5\n"},
		{"root, dots and repetitions", "search . lan. lan cluster.local", "nameserver 10.96.0.10\n" + search + " lan\noptions ndots:5\n"},
		{"comments", "# search a\n; search b\nsearchx c\nsearch", "nameserver 10.96.0.10\n" + search + "\noptions ndots:5\n"},
		{"32 domains", "search " + strings.Join(many, " "),
			"nameserver 10.96.0.10\n" + search + " " + strings.Join(many[:29], " ") + "\noptions ndots:5\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := Options{Nameserver: netip.MustParseAddr("10.96.0.10"), Search: registry.SearchPath("finance", "cluster.local")}
			if diff := cmp.Diff(tt.want, string(o.resolvConf([]byte(tt.host)))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestSearchPathChars checks the limit of 2048 characters, spaces included.
func TestSearchPathChars(t *testing.T) {
	domain := func(i int) string { return fmt.Sprintf("%02d.%s", i, strings.Repeat("x", 97)) } // 100 characters
	var domains []string
	for i := range 25 {
		domains = append(domains, domain(i))
	}
	got := searchPath(domains)
	if n := len(strings.Join(got, " ")); len(got) != 20 || n != 2019 {
		t.Errorf("%d domains of %d characters, want 20 of 2019", len(got), n)
	}
	exact := append(domains[:20:20], strings.Repeat("y", 28)) // 2019 + 1 + 28
	if n := len(strings.Join(searchPath(exact), " ")); n != 2048 {
		t.Errorf("%d characters, want 2048", n)
	}
	over := append(domains[:20:20], strings.Repeat("y", 29))
	if n := len(strings.Join(searchPath(over), " ")); n != 2019 {
		t.Errorf("%d characters, want 2019", n)
	}
}

func TestNsswitchConf(t *testing.T) {
	tests := []struct{ name, host, want string }{
		{"empty", "", "hosts: files dns\n"},
		{"others are kept", "# comment\npasswd: files systemd\nhosts: mymachines resolve [!UNAVAIL=return] files myhostname dns\nservices: db files\n",
			"hosts: files dns\n# comment\npasswd: files systemd\nservices: db files\n"},
		{"spaces, twice, no newline", "  hosts :\tfiles mdns4_minimal [NOTFOUND=return] dns\nhosts: nis\nnetgroup: nis",
			"hosts: files dns\nnetgroup: nis"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, string(nsswitchConf([]byte(tt.host)))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzResolvConf checks that whatever the host's file has, the program's has
// three lines and keeps to the limits.
func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("search corp.example lan\nnameserver 10.0.0.1\noptions rotate\n"))
	f.Add([]byte("domain\x00 a\r\nsearch \xff\v. ..\n"))
	f.Fuzz(func(t *testing.T, host []byte) {
		o := Options{Nameserver: netip.MustParseAddr("10.96.0.10"), Search: registry.SearchPath("finance", "cluster.local")}
		lines := strings.Split(string(o.resolvConf(host)), "\n")
		if len(lines) != 4 || lines[0] != "nameserver 10.96.0.10" || lines[2] != "options ndots:5" || lines[3] != "" {
			t.Fatalf("lines %q", lines)
		}
		search := strings.TrimPrefix(lines[1], "search ")
		if n := len(strings.Fields(search)); n > maxSearchDomains || len(search) > maxSearchChars {
			t.Errorf("a search path of %d domains and %d characters", n, len(search))
		}
	})
}

func TestEnviron(t *testing.T) {
	o := Options{Env: []string{"A=1", "B=2", "A=3", "C", "B="}}
	if diff := cmp.Diff([]string{"A=3", "C", "B="}, o.environ()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	t.Setenv("USHER_NETENV_TEST", "yes")
	if env := strings.Join(Options{}.environ(), "\n"); !strings.Contains(env, "USHER_NETENV_TEST=yes") {
		t.Errorf("the environment of this process is not the default: %s", env)
	}
}
