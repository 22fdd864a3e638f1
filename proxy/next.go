package proxy

import "usher/registry"

// Next returns the Backend that the next connection or flow of a Frontend gets,
// if nothing changes until then. It takes nobody's turn.
func (p *Proxy) Next(key registry.FrontendKey) (registry.Backend, bool) {
	p.mu.Lock()
	f := p.frontends[key]
	p.mu.Unlock()
	if f == nil {
		return registry.Backend{}, false
	}
	return f.picker.Peek(p.engine.clock())
}
