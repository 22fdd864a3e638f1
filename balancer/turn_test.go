package balancer

import (
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/registry"
)

// lettered makes Backends out of letters: "abc" has three, in order.
func lettered(letters string) []registry.Backend {
	var backends []registry.Backend
	for _, l := range letters {
		backends = append(backends, registry.Backend{
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(l)}), 80), Pod: string(l),
		})
	}
	return backends
}

// update gives p Backends and nothing else.
func update(p *Picker, backends []registry.Backend) {
	p.Update(&registry.Frontend{Backends: backends, Policy: registry.RoundRobin})
}

// first returns the letter of the Backend picked, "-" for none.
func first(p *Picker) string {
	if c := p.Pick(netip.Addr{}, 0); c.Len() > 0 {
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
			var r Picker
			for _, step := range tt.steps {
				update(&r, lettered(step[0]))
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
	var r Picker
	update(&r, lettered("abc"))
	first(&r)
	var got []string
	for c, i := r.Pick(netip.Addr{}, 0), 0; i < c.Len(); i++ {
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
	var r Picker
	if got := first(&r); got != "-" {
		t.Errorf("the zero value picked %s", got)
	}
}

// TestRoundRobinIsExact lets many goroutines pick at once.
func TestRoundRobinIsExact(t *testing.T) {
	var r Picker
	update(&r, lettered("abc"))
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
	var r Picker
	update(&r, lettered("abc"))
	first(&r)
	old := r.list.Load()
	update(&r, lettered("abcd"))
	if got := old.choose(netip.Addr{}, 0).At(0).Pod; got != "b" {
		t.Errorf("picked %s, want b", got)
	}
	if got := first(&r); got != "c" {
		t.Errorf("then %s, want c", got)
	}
}
