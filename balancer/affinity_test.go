package balancer

import (
	"net/netip"
	"testing"
	"time"

	"usher/registry"
)

// affine is a Picker with session affinity.
type affine struct {
	Picker
	now int64
}

func (p *affine) set(letters string, timeout time.Duration) {
	p.Update(&registry.Frontend{Backends: lettered(letters), Policy: registry.RoundRobin, Affinity: timeout})
}

func (p *affine) pick(i int) Choice { return p.Pick(client(i), p.now) }

func (p *affine) want(t *testing.T, when string, i int, want string) {
	t.Helper()
	if got := p.pick(i).At(0).Pod; got != want {
		t.Errorf("%s: client %d gets %s, want %s", when, i, got, want)
	}
}

func TestAffinity(t *testing.T) {
	const timeout = 10 * time.Second
	p := new(affine)
	p.set("abc", timeout)
	for i, name := range []string{"a", "b", "c", "a"} {
		p.want(t, "at first", i, name)
	}
	for range 3 {
		p.want(t, "again", 1, "b")
	}
	p.now += int64(timeout) - 1
	p.want(t, "just in time", 1, "b")
	p.now += int64(timeout) - 1
	p.want(t, "renewed", 1, "b")
	p.now += int64(timeout)
	p.want(t, "too late", 1, "b") // which is next: a was last

	p.set("bcd", timeout)
	p.want(t, "others changed", 1, "b")
	p.set("cd", timeout)
	p.want(t, "its backend left", 1, "c")
	p.set("bcd", timeout)
	p.want(t, "its backend is back", 1, "c")

	p.set("bcd", time.Minute)
	p.now += int64(30 * time.Second)
	p.want(t, "a longer time", 1, "c")
	p.set("bcd", timeout)
	p.now += int64(timeout)
	p.want(t, "a shorter time", 1, "d")

	p.set("bcd", 0)
	if p.ByClient() || p.pick(1).Affine() {
		t.Error("switched off, and still there")
	}
	p.set("bcd", timeout)
	p.want(t, "on again", 7, "c")
}

// TestAffinityFollowsWhoAnswers moves a client whose Backend fails.
func TestAffinityFollowsWhoAnswers(t *testing.T) {
	p := new(affine)
	p.set("abc", time.Hour)
	c := p.pick(1)
	c.Failed(0, errRefused, p.now)
	c.Pin(1, client(1), p.now)
	p.want(t, "after a failure", 1, "b")

	// An ejected Backend is nobody's.
	p.want(t, "another client", 2, "b")
	fail(&p.Picker, "b", p.now)
	p.want(t, "ejected", 1, "a") // whose turn it is
	c, i := find(&p.Picker, "b", p.now)
	c.Succeeded(i)
	p.want(t, "taken back, too late", 1, "a")
}

func TestAffinityIsBounded(t *testing.T) {
	p := new(affine)
	p.set("abc", time.Hour)
	from := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	name := p.Pick(from(0), 0).At(0).Pod
	p.Pick(from(1), 0)
	for i := 2; i < maxPins; i++ {
		p.Pick(from(i), 0)
	}
	if got := p.Pick(from(0), 0).At(0).Pod; got != name { // the newest from now on
		t.Errorf("the first client gets %s, want %s", got, name)
	}
	p.Pick(from(maxPins), 0)
	pins := p.list.Load().pins
	if len(pins.byClient) != maxPins || pins.byClient[from(0)] == nil || pins.byClient[from(1)] != nil {
		t.Errorf("%d pins, want %d and the oldest gone", len(pins.byClient), maxPins)
	}
	// They go with their time, as others come.
	for i := range maxPins {
		p.Pick(client(0), int64(time.Hour)+int64(i))
	}
	if n := len(pins.byClient); n != 1 {
		t.Errorf("%d pins are left, want 1", n)
	}
}
