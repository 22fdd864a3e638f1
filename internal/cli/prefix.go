package cli

import (
	"cmp"
	"fmt"
	"sync"
)

// prefixes are what the lines of Pods begin with: the name, as wide as the
// widest, and a bar. On a terminal each Pod has a colour, by turns.
type prefixes struct {
	colours bool

	mu    sync.Mutex // guards the following
	width int
	turn  map[string]int
}

// palette is the colours of terminals that are neither of the background nor
// those of errors.
var palette = []int{36, 33, 32, 35, 34, 96, 93, 92, 95, 94}

// newPrefixes returns prefixes for what is written to env.
func newPrefixes(env Env) *prefixes {
	plain := env.Getenv("NO_COLOR") != "" || env.Getenv("TERM") == "dumb" || !isTerminal(env.Stdout) || !isTerminal(env.Stderr)
	return &prefixes{colours: !plain, turn: make(map[string]int)}
}

// widen makes room for the names of a number of Pods, NAME-0 and so on.
func (p *prefixes) widen(name string, replicas int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.width = max(p.width, len(fmt.Sprintf("%s-%d", name, cmp.Or(replicas, 1)-1)))
}

// of returns the prefix of a Pod.
func (p *prefixes) of(pod string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprintf("%-*s | ", p.width, pod)
	if !p.colours {
		return text
	}
	if _, ok := p.turn[pod]; !ok {
		p.turn[pod] = len(p.turn)
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", palette[p.turn[pod]%len(palette)], text)
}
