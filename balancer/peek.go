package balancer

import "usher/registry"

// Peek returns the Backend that the next Pick chooses first if nothing changes
// until then, and takes no turn. It returns false where that is not known: it
// depends on the client, on chance or on load, or an ejected Backend is due to be
// tried.
func (p *Picker) Peek(now int64) (registry.Backend, bool) {
	l := p.list.Load()
	if l == nil || l.choosable == 0 || l.policy != registry.RoundRobin || l.pins != nil || now >= l.due.Load() {
		return registry.Backend{}, false
	}
	return *l.at(l.position(l.next.Load() &^ replaced)), true
}
