package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/internal/api"
)

func TestStatusText(t *testing.T) {
	status := &api.Status{
		UsherVersion: "v1", NodeName: "node-1", ClusterDomain: "cluster.local", ServiceCIDR: []string{"10.96.0.0/16"}, PID: 7,
		Revision: 9, Registry: "embedded etcd", API: []string{"unix:/s", "http://127.0.0.1:7080"}, Services: 2, Backends: 3,
		Views: []api.ViewStatus{
			{Name: "anyip", CIDR: "10.96.0.0/16", Nameserver: "10.96.0.10:53", Why: "routed to lo"},
			{Name: "loopback", CIDR: "127.96.0.0/16"},
		},
		Conditions: []string{"service/a -n b: \x1b[2Jport in use", "service/c -n d: no"},
	}
	const want = `Daemon:     usher v1, pid 7, node node-1
API:        unix:/s, http://127.0.0.1:7080
Registry:   embedded etcd (revision 9)
Services:   2 in 10.96.0.0/16, with 3 backends
Domain:     cluster.local
Views:      anyip: 10.96.0.0/16, nameserver 10.96.0.10:53
              routed to lo
            loopback: 127.96.0.0/16, nameserver none
Exec:       direct, proxy, private
Attention:  service/a -n b: ?[2Jport in use
            service/c -n d: no
`
	if diff := cmp.Diff(want, statusText(status, "direct, proxy, private")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if text := statusText(&api.Status{}, ""); !strings.HasSuffix(text, "Attention:  nothing needs any\n") {
		t.Errorf("without anything: %q", text)
	}
}

func TestStatusAndVersion(t *testing.T) {
	f := newFake(t, "")
	for args, want := range map[string]string{
		"status":            "Daemon:     usher v1, pid 7, node node-1\n",
		"status -o json":    "    \"nodeName\": \"node-1\",\n",
		"status -o yaml":    "nodeName: node-1\n",
		"version":           "Client Version: unknown\nServer Version: ",
		"version --client":  "Client Version: unknown\n",
		"version -o json":   "    \"clientVersion\": {\n",
		"version -o yaml":   "serverVersion:\n",
		"version -n a -A=x": "", // a flag that it has not
	} {
		got := f.usher(t, "", strings.Fields(args)...)
		if want == "" {
			if got.code != exitUsage {
				t.Errorf("%s: %+v", args, got)
			}
			continue
		}
		if got.code != 0 || !strings.Contains(got.stdout, want) || got.stderr != "" {
			t.Errorf("%s: %+v, want %q", args, got, want)
		}
	}
	got := usher(t, map[string]string{"USHER_SERVER": "unix:/nonexistent"}, "", "version")
	if got.code != exitError || got.stdout != "Client Version: unknown\n" || !strings.Contains(got.stderr, "the daemon is not running") {
		t.Errorf("without a daemon: %+v", got)
	}
}
