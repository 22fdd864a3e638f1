package proxy

import (
	"testing"
	"time"
)

// TestThirdDial checks that two silent Backends cost two delays.
func TestThirdDial(t *testing.T) { eachEngine(t, testThirdDial) }

func testThirdDial(t *testing.T, start starter) {
	const hedge = 100 * time.Millisecond
	h := start(t, Limits{Hedge: hedge})
	vip := freePort(t, "127.96.0.5")
	backends := ends(silent(t), silent(t))
	a, _ := named(t, "a")
	h.serve(vip, tcp, append(backends, ends(a)...)...)
	longest := time.Duration(0)
	for range 3 { // one after the other is the first
		begin := time.Now()
		if got, err := ask(vip); got != "a" || err != nil {
			t.Fatalf("read %q, %v", got, err)
		}
		longest = max(longest, time.Since(begin))
	}
	if longest < hedge*5/2 || longest > time.Second {
		t.Errorf("two silent backends cost %v, want %v", longest, hedge*5/2)
	}
}

// TestNoDialAfterTheTimeout checks that a Backend is not blamed for a dial that
// there was no time left for.
func TestNoDialAfterTheTimeout(t *testing.T) { overEngine(t, "portable", testNoDialAfterTheTimeout) }

func testNoDialAfterTheTimeout(t *testing.T, start starter) {
	h := start(t, Limits{DialTimeout: 100 * time.Millisecond, Hedge: patience})
	vip := freePort(t, "127.96.0.5")
	dark := silent(t)
	a, _ := named(t, "a")
	h.serve(vip, tcp, ends(dark, a)...)
	if h.next(vip, tcp) != dark {
		ask(vip)
	}
	if _, err := ask(vip); !isReset(err) {
		t.Errorf("read %v, want a reset", err)
	}
	if b, _ := h.backendStats(vip, a); b.Retries != 0 || b.DialErrors != 0 {
		t.Errorf("%d retries and %d failed dials of the one that was not dialled", b.Retries, b.DialErrors)
	}
}
