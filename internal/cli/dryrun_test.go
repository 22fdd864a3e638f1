package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/registry"
)

func TestDryRun(t *testing.T) {
	f := newFake(t, "")
	f.usher(t, service("web", "")+service("old", ""), "create", "-f", "-")
	sent := len(f.requests)
	changed := service("web", ", sessionAffinity: ClientIP")
	tests := []struct {
		in, args string
		want     result
	}{
		{service("new", ""), "create -f - --dry-run=server", result{0, "service/new created (server dry run)\n", ""}},
		{service("new", ""), "apply -f - --dry-run=server", result{0, "service/new created (server dry run)\n", ""}},
		{changed, "apply -f - --dry-run=server", result{0, "service/web configured (server dry run)\n", ""}},
		{service("web", ""), "apply -f - --dry-run=server", result{0, "service/web unchanged (server dry run)\n", ""}},
		{changed, "replace -f - --dry-run=server", result{0, "service/web replaced (server dry run)\n", ""}},
		{"", "delete svc web --dry-run=server", result{0, "service \"web\" deleted from default namespace (server dry run)\n", ""}},
		{service("new", ""), "create -f - --dry-run=server -o name", result{0, "service/new\n", ""}},
		{service("new", ""), "create -f - --dry-run=none -o name", result{0, "service/new\n", ""}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, f.usher(t, tt.in, strings.Fields(tt.args)...), cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.args, diff)
		}
		if f.dry != strings.Contains(tt.args, "server") {
			t.Errorf("%s: was the server asked for a dry run: %t", tt.args, f.dry)
		}
	}
	if n := len(f.requests) - sent; n != len(tests) {
		t.Errorf("%d requests, want %d", n, len(tests))
	}
}

// A dry run of the client sends nothing that writes.
func TestClientDryRun(t *testing.T) {
	f := newFake(t, "")
	f.usher(t, service("web", ""), "create", "-f", "-")
	sent := len(f.requests)
	tests := []struct {
		in, args string
		want     result
	}{
		{service("new", ""), "create -f - --dry-run=client", result{0, "service/new created (dry run)\n", ""}},
		{service("new", "") + service("web", ""), "apply -f - --dry-run=client", result{0, "service/new created (dry run)\nservice/web configured (dry run)\n", ""}},
		{service("web", ""), "replace -f - --dry-run=client", result{0, "service/web replaced (dry run)\n", ""}},
		{"", "delete svc web --dry-run=client", result{0, "service \"web\" deleted from default namespace (dry run)\n", ""}},
		{"", "delete svc none --dry-run=client", result{4, "", "Error from server (NotFound): services \"none\" not found\n"}},
		{"", "delete svc web --dry-run=maybe", result{2, "", "error: invalid dry-run value (maybe). Must be \"none\", \"server\", or \"client\"\nSee 'usher delete --help' for usage.\n"}},
		{service("web", ""), "apply -f - --dry-run=maybe", result{2, "", "error: invalid dry-run value (maybe). Must be \"none\", \"server\", or \"client\"\nSee 'usher apply --help' for usage.\n"}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, f.usher(t, tt.in, strings.Fields(tt.args)...), cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.args, diff)
		}
	}
	if len(f.requests) != sent || f.Snapshot().Get(key(registry.Services, "web")) == nil {
		t.Errorf("requests %q", f.requests[sent:])
	}
}

// Warnings of the server are for people: on standard error, each once.
func TestWarnings(t *testing.T) {
	f := newFake(t, "")
	f.warnings = []string{"mind the gap", "mind \"this\" too"}
	want := result{0, "service/a created (10.96.1.1)\nservice/b created (10.96.1.1)\n", "Warning: mind the gap\nWarning: mind \"this\" too\n"}
	if diff := cmp.Diff(want, f.usher(t, service("a", "")+service("b", ""), "apply", "-f", "-"), cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got := f.usher(t, "", "get", "endpoints", "-A")
	if want := "Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\n"; !strings.HasPrefix(got.stderr, want) {
		t.Errorf("%+v", got)
	}
}
