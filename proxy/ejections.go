package proxy

import (
	"iter"
	"time"

	"usher/registry"
)

// An Ejection says why a Backend of a Frontend is tried last.
type Ejection struct {
	Frontend *registry.Frontend
	Backend  registry.Backend
	Since    time.Time // when it was ejected
	Until    time.Time // when a connection may try it again
	Err      error     // how its last dial ended
}

// Ejections returns the Backends that are ejected now.
func (p *Proxy) Ejections() iter.Seq[Ejection] {
	return func(yield func(Ejection) bool) {
		now, wall := p.engine.clock(), time.Now()
		at := func(clock int64) time.Time { return wall.Add(time.Duration(clock - now)) }
		p.mu.Lock()
		list := make([]*frontend, 0, len(p.frontends))
		for _, f := range p.frontends {
			list = append(list, f)
		}
		p.mu.Unlock()
		for _, f := range list {
			for _, e := range f.picker.Ejections() {
				if !yield(Ejection{f.now.Load(), e.Backend, at(e.Since), at(e.Until), e.Err}) {
					return
				}
			}
		}
	}
}
