package proxy

import "usher/registry"

// Connections to a Backend that is removed are looked for when a Frontend has
// changed that does not keep them, and its counters say that there are some. A
// connection whose Backend is removed between pick and answer is not among them:
// its part of the engine looks once itself, after it has counted it.

// anyRemoved reports whether something may be open to a Backend that has been
// removed.
func (t *tally) anyRemoved(f *registry.Frontend) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for address, c := range t.backends {
		if c.active.Load() > 0 && !f.Keeps(address) {
			return true
		}
	}
	return t.gone != nil && t.gone.active.Load() > 0 // to whom is not known
}

// cut implements engine.
func (e *portable) cut(f *frontend) {
	if !f.parts[0].anyRemoved(f.now.Load()) {
		return
	}
	var pipes []*pipe
	e.mu.Lock()
	for p := range e.pipes {
		if p.frontend == f {
			pipes = append(pipes, p)
		}
	}
	e.mu.Unlock()
	for _, p := range pipes {
		p.cut()
	}
}

// cut ends the pipe if its Backend has been removed and the Frontend wants that.
func (p *pipe) cut() {
	f := p.frontend.now.Load()
	switch {
	case f.Keeps(p.to.Address):
	case f.Removed == registry.RemovedReset:
		p.fail()
	default:
		p.closeReads()
	}
}
