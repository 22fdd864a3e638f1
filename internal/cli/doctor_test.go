package cli

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/internal/api"
	"usher/internal/doctor"
	"usher/internal/setup"
)

func TestDiagnosisTable(t *testing.T) {
	d := newDiagnosis(doctor.Exec{}, []doctor.Finding{
		{Check: "daemon", Result: doctor.Pass, Finding: "usher v1"},
		{Check: "ports", Result: doctor.Warn, Finding: "ports\x1b[2J are moved", Remedy: "sudo usher setup ports"},
	})
	var out strings.Builder
	if err := (&tablePrinter{w: &out}).print(d.rows()); err != nil {
		t.Fatal(err)
	}
	const want = `CHECK    RESULT   FINDING
daemon   PASS     usher v1
ports    WARN     ports?[2J are moved
                    sudo usher setup ports
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Whatever this machine is like, the exit code says that something fails: an
// etcd that does not answer.
func TestDoctor(t *testing.T) {
	defaults, err := os.ReadFile("../../config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f := newFake(t, service("web", ""))
	f.status.ServiceCIDR, f.status.Registry = []string{"10.96.0.0/16"}, "embedded etcd a: context deadline exceeded"
	environ := map[string]string{"USHER_SERVER": f.server, "USHER_DATADIR": t.TempDir()}
	var stdout, stderr strings.Builder
	code := Main(t.Context(), Env{
		Stdout: &stdout, Stderr: &stderr, Defaults: defaults,
		Getenv: func(name string) string { return environ[name] },
	}, []string{"doctor", "-o", "json"})
	var d diagnosis
	if err := json.Unmarshal([]byte(stdout.String()), &d); err != nil {
		t.Fatalf("%v: %s", err, stdout.String())
	}
	etcd := doctor.Finding{
		Check: "daemon", Result: doctor.Fail, Finding: "the registry is not well: " + f.status.Registry,
		Remedy: "see the log of the daemon; what was read last is served meanwhile",
	}
	if code != exitError || stderr.String() != "" || d.Kind != "Diagnosis" || !slices.Contains(d.Findings, etcd) {
		t.Errorf("code %d, %q\n%s", code, stderr.String(), stdout.String())
	}
}

func TestNeedRoot(t *testing.T) {
	g := &globals{server: "unix:/x", env: Env{Getenv: func(string) string { return "" }}}
	words := g.setupWords("c.yaml", []string{"route"}, true)
	for _, err := range []error{needRoot(0, false, words), needRoot(1000, true, words)} {
		if err != nil {
			t.Error(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	want := "usher setup changes the whole machine, which only root may\n" +
		"  as root:             sudo " + self + " setup route --blackhole --config c.yaml --server unix:/x\n" +
		"  to see the commands: usher setup route --blackhole --config c.yaml --server unix:/x --dry-run"
	if err := needRoot(1000, false, words); err == nil || err.Error() != want {
		t.Errorf("%v, want\n%s", err, want)
	}
}

// A daemon that runs and does not say its ranges has others than a configuration,
// perhaps.
func TestServiceRangesOfDaemon(t *testing.T) {
	g := &globals{env: Env{Getenv: func(string) string { return "" }}}
	refused := errors.New("Unauthorized")
	if ranges, err := g.serviceRanges(nil, refused, ""); !errors.Is(err, refused) {
		t.Errorf("%v, %v", ranges, err)
	}
}

// Root may be asking the daemon of somebody else.
func TestNamesOfStranger(t *testing.T) {
	for _, domain := range []string{"../../etc/cron.d/x", "a\nDNS=192.0.2.1", ""} {
		if _, err := namesOf(&api.Status{ClusterDomain: domain, ServiceCIDR: []string{"10.96.0.0/16"}}); err == nil || !strings.Contains(err.Error(), "cluster domain") {
			t.Errorf("%q: %v", domain, err)
		}
	}
}

// The names of Services are asked of a nameserver that is open and visible here.
func TestNamesOf(t *testing.T) {
	here := networkNamespace()
	anyip := api.ViewStatus{Name: "anyip", CIDR: "10.96.0.0/16", Nameserver: "10.96.0.10:53", NetNS: here}
	loopback := api.ViewStatus{Name: "loopback", CIDR: "127.96.0.0/16", Nameserver: "127.96.0.10:8053", FirstPort: 1024, NetNS: here}
	closed, elsewhere := anyip, anyip
	closed.Nameserver, elsewhere.NetNS = "", here+1
	names := func(nameserver, address string) setup.Names {
		return setup.Names{
			Domain: "cluster.local", Nameserver: netip.MustParseAddrPort(nameserver),
			Canary: "kubernetes.default.svc.cluster.local", Address: netip.MustParseAddr(address),
		}
	}
	tests := map[string]struct {
		views []api.ViewStatus
		want  setup.Names
		err   string
	}{
		"both":      {[]api.ViewStatus{anyip, loopback}, names("10.96.0.10:53", "10.96.0.1"), ""},
		"closed":    {[]api.ViewStatus{closed, loopback}, names("127.96.0.10:8053", "127.96.0.1"), ""},
		"elsewhere": {[]api.ViewStatus{elsewhere, loopback}, names("127.96.0.10:8053", "127.96.0.1"), ""},
		"none":      {[]api.ViewStatus{closed}, setup.Names{}, "the daemon has no nameserver open here"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := namesOf(&api.Status{ClusterDomain: "cluster.local", ServiceCIDR: []string{"10.96.0.0/16"}, Views: tt.views})
			if tt.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("%+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}
