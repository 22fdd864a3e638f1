package balancer

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/registry"
)

// list makes Backends out of letters: "abc" has three, in order.
func list(letters string) []registry.Backend {
	var backends []registry.Backend
	for _, l := range letters {
		backends = append(backends, registry.Backend{
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(l)}), 80), Pod: string(l),
		})
	}
	return backends
}

// first returns the letter of the Backend picked, "-" for none.
func first(p Picker) string {
	if c := p.Pick(); c.Len() > 0 {
		return c.At(0).Pod
	}
	return "-"
}

func TestRoundRobin(t *testing.T) {
	tests := []struct {
		name string
		// Each step is a list of Backends and the picks expected from it.
		steps [][2]string
	}{
		{"none", [][2]string{{"", "--"}}},
		{"in turn", [][2]string{{"abc", "abcabca"}}},
		{"the same list again", [][2]string{{"abc", "ab"}, {"abc", "cab"}}},
		{"one added behind", [][2]string{{"abc", "ab"}, {"abcd", "cdab"}}},
		{"one added before", [][2]string{{"bcd", "bc"}, {"abcd", "dabc"}}},
		{"the last one picked removed", [][2]string{{"abc", "ab"}, {"ac", "cac"}}},
		{"the next one removed", [][2]string{{"abc", "ab"}, {"ab", "abab"}}},
		{"another one removed", [][2]string{{"abc", "ab"}, {"bc", "cbc"}}},
		{"all replaced", [][2]string{{"abc", "ab"}, {"xyz", "xyz"}}},
		{"all gone and back", [][2]string{{"abc", "ab"}, {"", "-"}, {"abc", "cab"}}},
		{"all gone and back without a pick", [][2]string{{"abc", "ab"}, {"", ""}, {"", "-"}, {"abc", "cab"}}},
		{"the last one picked gone and back without a pick", [][2]string{{"abc", "ab"}, {"ac", ""}, {"abc", "cab"}}},
		{"the last one of the list, and one added behind later", [][2]string{{"abc", "abc"}, {"abc", ""}, {"abcd", "dabc"}}},
		{"the last one of the list removed, and one added behind later", [][2]string{{"abc", "abc"}, {"ab", ""}, {"abd", "dab"}}},
		{"no pick between two changes", [][2]string{{"abc", "a"}, {"abcd", ""}, {"abcde", "bcde"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r RoundRobin
			for _, step := range tt.steps {
				r.Update(list(step[0]))
				var got strings.Builder
				for range step[1] {
					got.WriteString(first(&r))
				}
				if got.String() != step[1] {
					t.Errorf("of %q picked %s, want %s", step[0], got.String(), step[1])
				}
			}
		})
	}
}

// TestRoundRobinOthers checks that a pick goes on to each other Backend once,
// and that doing so does not disturb the turn.
func TestRoundRobinOthers(t *testing.T) {
	var r RoundRobin
	r.Update(list("abc"))
	first(&r)
	var got []string
	for c, i := r.Pick(), 0; i < c.Len(); i++ {
		got = append(got, c.At(i).Pod)
	}
	if diff := cmp.Diff([]string{"b", "c", "a"}, got); diff != "" {
		t.Errorf("all of a pick (-want +got):\n%s", diff)
	}
	if got := first(&r); got != "c" {
		t.Errorf("the next pick is %s, want c", got)
	}
}

func TestRoundRobinZero(t *testing.T) {
	var r RoundRobin
	if got := first(&r); got != "-" {
		t.Errorf("the zero value picked %s", got)
	}
}

// TestRoundRobinIsExact lets many goroutines pick at once.
func TestRoundRobinIsExact(t *testing.T) {
	var r RoundRobin
	r.Update(list("abc"))
	counts := make([]map[string]int, 16)
	var wg sync.WaitGroup
	for i := range counts {
		counts[i] = make(map[string]int)
		wg.Go(func() {
			for range 3000 {
				counts[i][first(&r)]++
			}
		})
	}
	wg.Wait()
	total := make(map[string]int)
	for _, m := range counts {
		for name, n := range m {
			total[name] += n
		}
	}
	if diff := cmp.Diff(map[string]int{"a": 16000, "b": 16000, "c": 16000}, total); diff != "" {
		t.Errorf("picks (-want +got):\n%s", diff)
	}
}

// TestRoundRobinOvertaken has a pick that an Update overtakes: it counts in
// the new list.
func TestRoundRobinOvertaken(t *testing.T) {
	var r RoundRobin
	r.Update(list("abc"))
	first(&r)
	old := r.turn.Load()
	r.Update(list("abcd"))
	if got := r.pick(old).At(0).Pod; got != "b" {
		t.Errorf("picked %s, want b", got)
	}
	if got := first(&r); got != "c" {
		t.Errorf("then %s, want c", got)
	}
}

func BenchmarkRoundRobin(b *testing.B) {
	for _, n := range []int{3, 1000} {
		b.Run(fmt.Sprintf("backends=%d", n), func(b *testing.B) {
			var r RoundRobin
			backends := make([]registry.Backend, n)
			for i := range backends {
				backends[i].Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80)
			}
			r.Update(backends)
			b.ReportAllocs()
			for b.Loop() {
				if c := r.Pick(); c.At(0) == nil {
					b.Fatal("no Backend")
				}
			}
		})
	}
}
