package cli

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"usher/internal/api"
)

// statusOnly answers every request with what a daemon says about itself, and fails
// the test at any that changes something.
func statusOnly(t *testing.T, status api.Status) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			t.Errorf("asked to %s %s", r.Method, r.URL)
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(status); err != nil {
			t.Error(err)
		}
	}
}

// run refuses a daemon that could not connect to its processes before it asks
// it for anything.
func TestRunElsewhere(t *testing.T) {
	f := newFake(t, "")
	f.read = statusOnly(t, api.Status{PID: 7, Views: []api.ViewStatus{{Name: "loopback", NetNS: 12345}}})
	got := f.usher(t, "", "run", "web", "--", "true")
	if got.code != exitError {
		t.Errorf("exit code %d, want %d", got.code, exitError)
	}
	for _, want := range []string{
		"error: the daemon is in the network namespace 12345, and this is another one (",
		"\n  run it there:       nsenter -t 7 -n -- usher run …\n",
	} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("stderr %q, want %q", got.stderr, want)
		}
	}
	if len(f.requests) > 0 {
		t.Errorf("asked for %q", f.requests)
	}
}

func TestReachable(t *testing.T) {
	here := networkNamespace()
	tests := map[string]struct {
		server string
		netns  uint64
		want   string // in the error; "" if there is none
	}{
		"a socket":               {"unix:/run/usher/usher.sock", here, ""},
		"a port":                 {"http://127.0.0.1:7080", here, ""},
		"a port, IPv6":           {"http://[::1]:7080", here, ""},
		"a name":                 {"http://localhost:7080", here, ""},
		"a system without":       {"unix:/run/usher/usher.sock", 0, ""},
		"another namespace":      {"unix:/run/usher/usher.sock", here + 1, "another one"},
		"a port in another":      {"http://127.0.0.1:7080", here + 1, "another one"},
		"another machine":        {"https://192.0.2.1:7080", here, "https://192.0.2.1:7080 is on another machine"},
		"another machine's IPv6": {"https://[2001:db8::1]:7080", here, "is on another machine"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := reachable(t.Context(), tt.server, &api.Status{Views: []api.ViewStatus{{NetNS: tt.netns}}})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
