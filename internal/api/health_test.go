package api

import (
	"errors"
	"testing"
)

// TestChecks checks the answers of health checks, which are those of Kubernetes'
// API server but for the reason of a failure.
func TestChecks(t *testing.T) {
	s, _ := newTestServer(t, 9)
	fails := errors.New("it is away")
	s.opts.Ready = []Check{{"etcd", func() error { return fails }}, {"proxy", func() error { return nil }}}
	tests := []struct {
		path string
		code int
		body string
	}{
		{"/livez", 200, "ok"},
		{"/healthz", 200, "ok"},
		{"/livez?verbose", 200, "[+]ping ok\nlivez check passed\n"},
		{"/healthz?verbose", 200, "[+]ping ok\nhealthz check passed\n"},
		{"/livez/ping", 200, "ok"},
		{"/readyz", 500, "[+]ping ok\n[-]etcd failed: it is away\n[+]proxy ok\nreadyz check failed\n"},
		{"/readyz/etcd", 500, "internal server error: it is away\n"},
		{"/readyz/proxy", 200, "ok"},
		{"/readyz?exclude=etcd", 200, "ok"},
		{"/readyz?verbose&exclude=etcd&exclude=b&exclude=a", 200, "[+]ping ok\n[+]etcd excluded: ok\n[+]proxy ok\n" +
			"warn: some health checks cannot be excluded: no matches for \"a\", \"b\"\nreadyz check passed\n"},
		{"/livez/etcd", 404, ""},
		{"/readyz/etcd/more", 404, ""},
	}
	for _, tt := range tests {
		got := ask(t, s.Handler(), "GET", tt.path, "")
		if got.code != tt.code || tt.code != 404 && got.body != tt.body {
			t.Errorf("%s: %d %q, want %d %q", tt.path, got.code, got.body, tt.code, tt.body)
		}
	}
	fails = nil
	if got := ask(t, s.Handler(), "GET", "/readyz", ""); got.code != 200 || got.body != "ok" {
		t.Errorf("readyz: %d %q", got.code, got.body)
	}
}
