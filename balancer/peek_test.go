package balancer

import (
	"math"
	"testing"
	"time"

	"usher/registry"
)

// Peek says what Pick does next, and takes no turn.
func TestPeek(t *testing.T) {
	var p Picker
	check := func(what string, now int64) {
		t.Helper()
		for range 7 {
			next := "-"
			for range 3 {
				if b, ok := p.Peek(now); ok {
					next = b.Pod
				}
			}
			if got := first(&p); got != next {
				t.Errorf("%s: %s was next, and %s was picked", what, next, got)
			}
		}
	}
	check("nothing", 0)
	for _, letters := range []string{"abc", "abd", "", "xy"} {
		update(&p, lettered(letters))
		check(letters, 0)
	}
	update(&p, weighted("a3b1c2"))
	check("by weight", 0)
	update(&p, lettered("abc"))
	fail(&p, "b", 0)
	check("one ejected", 0)
	if b, ok := p.Peek(math.MaxInt64 - 1); ok {
		t.Errorf("an ejected Backend is due to be tried, and %s is next", b.Pod)
	}
	for _, policy := range []registry.Policy{registry.Random, registry.LeastConnections, registry.P2C, registry.Maglev} {
		p.Update(&registry.Frontend{Backends: lettered("abc"), Policy: policy})
		if b, ok := p.Peek(0); ok {
			t.Errorf("%s: %s is next for sure", policy, b.Pod)
		}
	}
	p.Update(&registry.Frontend{Backends: lettered("abc"), Policy: registry.RoundRobin, Affinity: time.Hour})
	if b, ok := p.Peek(0); ok {
		t.Errorf("with session affinity %s is next whoever comes", b.Pod)
	}
}
