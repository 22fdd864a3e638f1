package proxy

import (
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

// Ejections returns the Backends of a Service that are ejected now.
func (p *Proxy) Ejections(namespace, service string) []Ejection {
	now := p.engine.clock()
	wall := time.Now()
	at := func(clock int64) time.Time { return wall.Add(time.Duration(clock - now)) }
	var list []Ejection
	for want := range p.options.Store.Snapshot().ServiceFrontends(namespace, service) {
		p.mu.Lock()
		f := p.frontends[want.FrontendKey]
		p.mu.Unlock()
		if f == nil {
			continue // it is not served yet
		}
		for _, e := range f.picker.Ejections() {
			list = append(list, Ejection{f.now.Load(), e.Backend, at(e.Since), at(e.Until), e.Err})
		}
	}
	return list
}
