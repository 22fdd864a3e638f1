package balancer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/registry"
)

// seeded returns a source of the same numbers each time.
func seeded() func() uint64 { return rand.New(rand.NewPCG(1, 2)).Uint64 }

// weighted is lettered with weights: "a3b1".
func weighted(text string) []registry.Backend {
	var backends []registry.Backend
	for i := 0; i < len(text); i += 2 {
		b := lettered(text[i : i+1])[0]
		b.Weight = uint16(text[i+1] - '0')
		backends = append(backends, b)
	}
	return backends
}

// client returns the address of a client.
func client(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)})
}

// picks returns the letters of n picks.
func picks(p *Picker, n int) string {
	var got strings.Builder
	for range n {
		got.WriteString(first(p))
	}
	return got.String()
}

func counts(letters string) map[string]int {
	m := make(map[string]int)
	for _, l := range letters {
		m[string(l)]++
	}
	return m
}

func TestWeightedRoundRobin(t *testing.T) {
	tests := []struct {
		name  string
		steps [][2]string // weights, and the picks expected
	}{
		{"smooth", [][2]string{{"a3b1", "aabaaaba"}}},
		{"three", [][2]string{{"a5b1c1", "aaabcaa"}}},
		{"a common divisor", [][2]string{{"a4b2", "abaaba"}}},
		{"all the same", [][2]string{{"a7b7c7", "abcabc"}}},
		{"the same again goes on", [][2]string{{"a3b1", "a"}, {"a3b1", "abaa"}}},
		{"a weight changes", [][2]string{{"a3b1", "a"}, {"a1b3", "bab"}}},
		{"one more", [][2]string{{"a2b1", "a"}, {"a2b1c1", "bcaa"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Picker
			for _, step := range tt.steps {
				update(&p, weighted(step[0]))
				if got := picks(&p, len(step[1])); got != step[1] {
					t.Errorf("of %q picked %s, want %s", step[0], got, step[1])
				}
			}
		})
	}
}

// TestWeightsAreExact checks that a cycle has each Backend as often as its
// weight says, and never far from that.
func TestWeightsAreExact(t *testing.T) {
	backends := lettered("abcde")
	weights := []int{100, 37, 1, 60, 2}
	total := 0
	for i := range backends {
		backends[i].Weight = uint16(weights[i])
		total += weights[i]
	}
	var p Picker
	update(&p, backends)
	for cycle := range 3 {
		got := make(map[string]int)
		for n := 1; n <= total; n++ {
			got[first(&p)]++
			for i, b := range backends {
				if ahead := got[b.Pod]*total - weights[i]*n; ahead > 2*total || ahead < -2*total {
					t.Fatalf("after %d picks %s has had %d", n, b.Pod, got[b.Pod])
				}
			}
		}
		if diff := cmp.Diff(map[string]int{"a": 100, "b": 37, "c": 1, "d": 60, "e": 2}, got); diff != "" {
			t.Errorf("cycle %d (-want +got):\n%s", cycle, diff)
		}
	}
}

func TestRandom(t *testing.T) {
	tests := []struct {
		name     string
		backends []registry.Backend
		want     map[string]int // of 10,000
	}{
		{"equal", lettered("abcd"), map[string]int{"a": 2500, "b": 2500, "c": 2500, "d": 2500}},
		{"weighted", weighted("a1b4c5"), map[string]int{"a": 1000, "b": 4000, "c": 5000}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Picker{Random: seeded()}
			p.Update(&registry.Frontend{Backends: tt.backends, Policy: registry.Random})
			letters := picks(&p, 10000)
			for name, n := range counts(letters) {
				if d := n - tt.want[name]; d > 200 || d < -200 {
					t.Errorf("%s was picked %d times, want about %d", name, n, tt.want[name])
				}
			}
			again := Picker{Random: seeded()}
			again.Update(&registry.Frontend{Backends: tt.backends, Policy: registry.Random})
			if picks(&again, 10000) != letters {
				t.Error("the same seed picks others")
			}
		})
	}
}

// TestLeastConnections has connections come and go.
func TestLeastConnections(t *testing.T) {
	p := new(Picker)
	p.Update(&registry.Frontend{Backends: lettered("abc"), Policy: registry.LeastConnections})
	open := make(map[string]Choice)
	for range 3 {
		c := p.Pick(netip.Addr{}, 0)
		open[c.At(0).Pod] = c
	}
	if len(open) != 3 {
		t.Fatalf("three idle backends: picked %v", open)
	}
	open["b"].Release(0)
	for range 3 { // b has the least, again and again
		c := p.Pick(netip.Addr{}, 0)
		if c.At(0).Pod != "b" {
			t.Errorf("picked %s, want b", c.At(0).Pod)
		}
		c.Release(0)
	}
	// What goes from b to its next in turn counts there.
	c := p.Pick(netip.Addr{}, 0)
	c.Move(0, 1)
	if got := p.Pick(netip.Addr{}, 0).At(0).Pod; got != "b" {
		t.Errorf("after a move picked %s, want b", got)
	}
	c.Release(1)
	// The counts are kept when others come, and it is not the others' turn.
	p.Update(&registry.Frontend{Backends: lettered("abcd"), Policy: registry.LeastConnections})
	if got := first(p); got != "d" {
		t.Errorf("picked %s, want d, which is new", got)
	}
}

// A Backend that comes back has the connections that it kept meanwhile, and none
// that have ended.
func TestLeastConnectionsComingBack(t *testing.T) {
	p := new(Picker)
	update := func(names string) {
		p.Update(&registry.Frontend{Backends: lettered(names), Policy: registry.LeastConnections})
	}
	update("abc")
	open := make(map[string][]Choice)
	for range 6 {
		c := p.Pick(netip.Addr{}, 0)
		open[c.At(0).Pod] = append(open[c.At(0).Pod], c)
	}
	update("ab")
	update("abd")
	open["c"][0].Release(0)
	update("abc")
	if got := picks(p, 2); counts(got)["c"] != 1 {
		t.Errorf("%s, want c once: it has one, the others two", got)
	}
	if len(p.gone) > 0 {
		t.Errorf("%d are still gone", len(p.gone))
	}
}

// TestElsewhere checks that what others have open counts as one's own, also at a
// Backend that comes later, until they say otherwise.
func TestElsewhere(t *testing.T) {
	at := func(letter string) netip.AddrPort { return lettered(letter)[0].Address }
	for _, policy := range []registry.Policy{registry.LeastConnections, registry.P2C} {
		p := new(Picker)
		p.Elsewhere(map[netip.AddrPort]int64{at("a"): 2})
		p.Update(&registry.Frontend{Backends: lettered("ab"), Policy: policy})
		if got := picks(p, 2); got != "bb" {
			t.Errorf("%s: %s, want the other one", policy, got)
		}
		p.Elsewhere(map[netip.AddrPort]int64{at("b"): 1, at("c"): 9})
		p.Update(&registry.Frontend{Backends: lettered("abc"), Policy: policy})
		if got := counts(picks(p, 3)); policy == registry.LeastConnections && got["a"] != 3 || got["c"] != 0 {
			t.Errorf("%s: %v, want a", policy, got)
		}
		p.Elsewhere(nil)
		if got := first(p); policy == registry.LeastConnections && got != "c" {
			t.Errorf("%s: %s, want the one that has none", policy, got)
		}
	}
}

func TestLeastConnectionsByWeight(t *testing.T) {
	for _, policy := range []registry.Policy{registry.LeastConnections, registry.P2C} {
		p := &Picker{Random: seeded()}
		p.Update(&registry.Frontend{Backends: weighted("a1b3"), Policy: policy})
		got := counts(picks(p, 400)) // none ends
		if got["b"] < 295 || got["b"] > 305 {
			t.Errorf("%s: %v, want b three times as often", policy, got)
		}
	}
}

// TestP2C checks that two choices keep the loads close together.
func TestP2C(t *testing.T) {
	p := &Picker{Random: seeded()}
	p.Update(&registry.Frontend{Backends: lettered("abcdefgh"), Policy: registry.P2C})
	for name, n := range counts(picks(p, 8000)) {
		if n < 990 || n > 1010 {
			t.Errorf("%s has %d connections, want about 1000", name, n)
		}
	}
}

func maglev(backends []registry.Backend) *Picker {
	p := new(Picker)
	p.Update(&registry.Frontend{Backends: backends, Policy: registry.Maglev})
	return p
}

// byClient returns whom each of n clients gets.
func byClient(p *Picker, n int) []string {
	var got []string
	for i := range n {
		got = append(got, p.Pick(client(i), 0).At(0).Pod)
	}
	return got
}

func TestMaglev(t *testing.T) {
	const clients = 20000
	p := maglev(lettered("abcde"))
	before := byClient(p, clients)
	if diff := cmp.Diff(before, byClient(maglev(lettered("abcde")), clients)); diff != "" {
		t.Error("another node has another table")
	}
	for name, n := range counts(strings.Join(before, "")) {
		if n < clients/5*95/100 || n > clients/5*105/100 {
			t.Errorf("%s has %d clients of %d", name, n, clients)
		}
	}
	p.Update(&registry.Frontend{Backends: lettered("abde"), Policy: registry.Maglev})
	moved := 0
	for i, now := range byClient(p, clients) {
		if before[i] != "c" && now != before[i] {
			moved++
		}
	}
	// The paper's figure for tables of this size and so few Backends is well
	// under 1 % of the others.
	if moved > clients*2/100 {
		t.Errorf("%d clients of %d moved without need when one backend left", moved, clients)
	}
	p.Update(&registry.Frontend{Backends: lettered("abcde"), Policy: registry.Maglev})
	if diff := cmp.Diff(before, byClient(p, clients)); diff != "" {
		t.Error("the same backends again make another table")
	}
}

func TestMaglevByWeight(t *testing.T) {
	got := counts(strings.Join(byClient(maglev(weighted("a1b3c6")), 20000), ""))
	for name, want := range map[string]int{"a": 2000, "b": 6000, "c": 12000} {
		if n := got[name]; n < want*93/100 || n > want*107/100 {
			t.Errorf("%s has %d clients, want about %d", name, n, want)
		}
	}
}

// TestMaglevEjected checks that the clients of an ejected Backend spread over
// the others, who keep theirs.
func TestMaglevEjected(t *testing.T) {
	p := maglev(lettered("abcd"))
	before := byClient(p, 2000)
	fail(p, "b", 0)
	to := make(map[string]int)
	for i, now := range byClient(p, 2000) {
		switch {
		case before[i] == "b":
			to[now]++
		case now != before[i]:
			t.Fatalf("client %d moved from %s to %s", i, before[i], now)
		}
	}
	if len(to) != 3 || to["b"] != 0 {
		t.Errorf("the clients of b went to %v", to)
	}
}

// TestPolicyChanges switches the policy of a Service that is in use.
func TestPolicyChanges(t *testing.T) {
	p := &Picker{Random: seeded()}
	var held []Choice
	for _, policy := range []registry.Policy{
		registry.RoundRobin, registry.LeastConnections, registry.Maglev, registry.P2C, registry.Random, "", registry.LeastConnections,
	} {
		p.Update(&registry.Frontend{Backends: lettered("abc"), Policy: policy})
		for i := range 9 {
			held = append(held, p.Pick(client(i), 0))
		}
	}
	for _, c := range held {
		c.Release(0)
	}
	for name, e := range p.ends {
		if n := e.load.Load(); n != 0 {
			t.Errorf("%s has %d connections left", name, n)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, policy := range []registry.Policy{registry.RoundRobin, "weighted", registry.Random, registry.LeastConnections, registry.P2C, registry.Maglev, "affinity"} {
		for _, n := range []int{3, 1000} {
			b.Run(fmt.Sprintf("%s/backends=%d", policy, n), func(b *testing.B) {
				f := &registry.Frontend{Backends: make([]registry.Backend, n), Policy: policy}
				for i := range f.Backends {
					f.Backends[i].Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80)
					if policy == "weighted" {
						f.Backends[i].Weight = uint16(i%5 + 1)
					}
				}
				if policy == "affinity" {
					f.Affinity = 3600e9
				}
				var p Picker
				p.Update(f)
				from := client(1)
				b.ReportAllocs()
				for b.Loop() {
					c := p.Pick(from, 1)
					if c.At(0) == nil {
						b.Fatal("no Backend")
					}
					c.Release(0)
				}
			})
		}
	}
}
