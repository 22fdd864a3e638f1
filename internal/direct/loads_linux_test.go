//go:build amd64 || arm64

package direct

import (
	"strings"
	"testing"

	"usher/internal/api"
)

// at is what others have open to a Backend of the Service at 10.96.0.7:80.
func at(backend string, open int64) []api.ReportedLoad {
	return []api.ReportedLoad{{ReportedFrontend: api.ReportedFrontend{Address: "10.96.0.7:80", Protocol: "TCP"}, Backend: backend, Open: open}}
}

// TestLoadsElsewhere checks that the first connection of a program goes to the
// Backend that others use less already, and later ones where that is then, and
// that they no longer count when the daemon has gone.
func TestLoadsElsewhere(t *testing.T) {
	a, b := backend(t, "a", "127.0.0.1:0"), backend(t, "b", "127.0.0.2:0")
	least := strings.Replace(service("web", "10.96.0.7", 80, "TCP", a, b),
		`"namespace":"default"`, `"namespace":"default","annotations":{"usher.internal/balancer":"least-connections"}`, 1)
	w := newWorld(t, least)
	w.reports.elsewhere = at(a, 100)
	say, hear := interactive(t, w.client("asks"))
	asks := func() string {
		say("10.96.0.7:80")
		return hear()
	}
	always := func(want string) {
		t.Helper()
		for range 6 {
			if got := asks(); got != want {
				t.Errorf("%s answers, want %s", got, want)
			}
		}
	}
	always("b")
	w.reports.mu.Lock()
	w.reports.stream.Tell(at(b, 100))
	w.reports.mu.Unlock()
	until(t, "a answers", func() bool { return asks() == "a" })
	always("a")
	w.die()
	until(t, "b answers without the daemon", func() bool { return asks() == "b" })
}
