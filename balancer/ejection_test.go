package balancer

import (
	"errors"
	"math"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/registry"
)

var errRefused = errors.New("connection refused")

// errSilent is a time-out.
type silence struct{}

func (silence) Error() string { return "timed out" }
func (silence) Timeout() bool { return true }

// find returns a Choice, and the place in it of a Backend.
func find(p *Picker, name string, now int64) (Choice, int) {
	c := p.Pick(client(0), now)
	for i := range c.Len() {
		if c.At(i).Pod == name {
			return c, i
		}
	}
	return c, -1
}

// fail has dials of a Backend fail until it is ejected.
func fail(p *Picker, name string, now int64) {
	for range ejectAfter {
		c, i := find(p, name, now)
		c.Failed(i, errRefused, now)
	}
}

// order returns the letters of a Choice.
func order(c Choice) string {
	var got strings.Builder
	for i := range c.Len() {
		got.WriteString(c.At(i).Pod)
	}
	return got.String()
}

func ejected(p *Picker) string {
	var got strings.Builder
	for _, e := range p.Ejections() {
		got.WriteString(e.Backend.Pod)
	}
	return got.String()
}

// TestEjection checks that a Backend that fails goes to the end, and that the
// others go on in turn.
func TestEjection(t *testing.T) {
	var p Picker
	update(&p, lettered("abcd"))
	c, i := find(&p, "b", 0)
	c.Failed(i, errRefused, 0)
	c.Failed(i, errRefused, 0)
	c.Succeeded(i)
	c.Failed(i, errRefused, 0)
	c.Failed(i, errRefused, 0)
	if got := ejected(&p); got != "" {
		t.Fatalf("ejected %s after two failures in a row", got)
	}
	c.Failed(i, errRefused, 0)
	if got := ejected(&p); got != "b" {
		t.Fatalf("ejected %q, want b", got)
	}
	var got []string
	for range 4 {
		got = append(got, order(p.Pick(netip.Addr{}, 0)))
	}
	if diff := cmp.Diff([]string{"cdab", "dacb", "acdb", "cdab"}, got); diff != "" {
		t.Errorf("choices (-want +got):\n%s", diff)
	}
	// It is found when all others fail, and taken back at once.
	c, i = find(&p, "b", 0)
	c.Succeeded(i)
	if got := picks(&p, 5) + ejected(&p); got != "abcda" {
		t.Errorf("after a success picked %s, want abcda", got)
	}
}

// TestLastIsNotEjected lets all Backends fail.
func TestLastIsNotEjected(t *testing.T) {
	var p Picker
	update(&p, lettered("abc"))
	for _, name := range []string{"a", "b", "c", "c"} {
		fail(&p, name, 0)
	}
	if got := ejected(&p); got != "ab" {
		t.Errorf("ejected %q, want all but the last, ab", got)
	}
	if got := order(p.Pick(netip.Addr{}, 0)); got != "cab" {
		t.Errorf("the choice is %s, want cab", got)
	}
	// One comes back: the last has its turn to be ejected.
	c, i := find(&p, "a", 0)
	c.Succeeded(i)
	fail(&p, "c", 0)
	if got := ejected(&p); got != "bc" {
		t.Errorf("ejected %q, want bc", got)
	}
	// The last one leaves: the others are all there is.
	update(&p, lettered("bc"))
	if got := ejected(&p); got != "" {
		t.Errorf("ejected %q, want none: there is no other", got)
	}
	update(&p, lettered("bcd"))
	if got := ejected(&p); got != "" {
		t.Errorf("ejected %q, want none: they had a new start", got)
	}
}

// TestReturn checks when an ejected Backend is tried again, and by how many.
func TestReturn(t *testing.T) {
	const s = int64(time.Second)
	tests := []struct {
		name string
		err  error
		want []time.Duration
	}{
		{"refused", errRefused, []time.Duration{1e9, 2e9, 4e9, 4e9, 4e9}},
		{"silent", silence{}, []time.Duration{1e9, 2e9, 4e9, 8e9, 16e9, 30e9, 30e9}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Picker
			update(&p, lettered("abc"))
			now := 5 * s
			for range ejectAfter {
				c, i := find(&p, "b", now)
				c.Failed(i, tt.err, now)
			}
			for _, wait := range tt.want {
				e := p.Ejections()[0]
				if e.Since != 5*s || e.Until != now+int64(wait) || e.Err != tt.err {
					t.Fatalf("at %v: %+v, want until %v later", time.Duration(now), e, wait)
				}
				now = e.Until
				if got := p.Pick(netip.Addr{}, now-1).At(0).Pod; got == "b" {
					t.Fatalf("tried again too early")
				}
				c := p.Pick(netip.Addr{}, now)
				if got := order(c); got[0] != 'b' || len(counts(got)) != 3 {
					t.Fatalf("at its time the choice is %s, want b first", got)
				}
				if got := counts(order(p.Pick(netip.Addr{}, now)))["b"]; p.Pick(netip.Addr{}, now).At(0).Pod == "b" || got != 1 {
					t.Fatalf("more than one tries it")
				}
				c.Failed(0, tt.err, now)
			}
			c := p.Pick(netip.Addr{}, math.MaxInt64/2)
			c.Succeeded(0)
			if got := ejected(&p); got != "" {
				t.Errorf("ejected %q after a success", got)
			}
		})
	}
}

// TestTriesOneByOne has several Backends that are to be tried again.
func TestTriesOneByOne(t *testing.T) {
	var p Picker
	update(&p, lettered("abcde"))
	for _, name := range []string{"a", "c", "e"} {
		fail(&p, name, 0)
	}
	now := p.Ejections()[0].Until
	var got []string
	for range 4 {
		got = append(got, order(p.Pick(netip.Addr{}, now)))
	}
	if diff := cmp.Diff([]string{"adbce", "cbdae", "edbac", "bdace"}, got); diff != "" {
		t.Errorf("choices (-want +got):\n%s", diff)
	}
}

// TestAbandonedTry has the client leave before it is known how its try ends.
func TestAbandonedTry(t *testing.T) {
	var p Picker
	update(&p, lettered("abc"))
	fail(&p, "b", 0)
	now := p.Ejections()[0].Until
	p.Pick(netip.Addr{}, now)
	now = p.Ejections()[0].Until
	if got := p.Pick(netip.Addr{}, now).At(0).Pod; got != "b" {
		t.Errorf("picked %s, want b to be tried again", got)
	}
}

// TestUpdateKeepsEjections changes the Backends while one is ejected.
func TestUpdateKeepsEjections(t *testing.T) {
	var p Picker
	update(&p, lettered("abc"))
	fail(&p, "b", 0)
	update(&p, lettered("abcd"))
	if got := ejected(&p); got != "b" {
		t.Errorf("ejected %q, want b", got)
	}
	another := lettered("abcd")
	another[1].Pod = "x" // another Pod at that address
	update(&p, another)
	if got := ejected(&p); got != "" {
		t.Errorf("ejected %q, want none: that server is new", got)
	}
	fail(&p, "c", 0)
	update(&p, lettered("abd"))
	update(&p, lettered("abcd"))
	if got := ejected(&p); got != "" {
		t.Errorf("ejected %q, want none: it was away", got)
	}
}

// TestEjectionsAtOnce has many goroutines pick, fail and succeed.
func TestEjectionsAtOnce(t *testing.T) {
	for _, f := range []*registry.Frontend{
		{Policy: registry.RoundRobin}, {Policy: registry.LeastConnections}, {Policy: registry.Maglev},
		{Policy: registry.RoundRobin, Affinity: time.Hour},
	} {
		var p Picker
		f.Backends = lettered("abcd")
		p.Update(f)
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for n := range 2000 {
					c := p.Pick(client(n), int64(n)*1e7)
					i := 0
					for c.At(i).Pod == "a" || c.At(i).Pod == "b" && n%2 == 0 {
						c.Failed(i, errRefused, int64(n)*1e7)
						c.Move(i, i+1)
						i++
					}
					c.Succeeded(i)
					c.Pin(i, client(n), int64(n)*1e7)
					c.Release(i)
					if g == 0 && n%100 == 0 {
						p.Update(f)
					}
				}
			})
		}
		wg.Wait()
		if got := ejected(&p); !strings.HasPrefix(got, "a") {
			t.Errorf("%s: ejected %q, want a", f.Policy, got)
		}
		for _, e := range p.ends {
			if e.load.Load() != 0 {
				t.Errorf("%s: %d connections left", f.Policy, e.load.Load())
			}
		}
	}
}
