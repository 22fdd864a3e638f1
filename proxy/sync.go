package proxy

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// A Sync is a turn in which the Proxy has brought what is open into line with
// what is wanted.
type Sync struct {
	Full bool // all was looked at, not only what had changed
	Took time.Duration

	Services, EndpointSlices int // changes of these that led to it

	// Triggers are the times of what had led to those changes of EndpointSlices
	// that say so, and happened since the Proxy was made.
	Triggers []time.Time

	// Headless are those of Triggers that are of headless Services with a
	// selector: they have no proxy, only names.
	Headless []time.Time
}

// add adds a change of an object.
func (s *Sync) add(c registry.Change, since time.Time) {
	switch c.Kind {
	case registry.Services:
		s.Services++
	case registry.EndpointSlices:
		s.EndpointSlices++
		if t := trigger(c.New); t.After(since) && !t.Equal(trigger(c.Old)) {
			s.Triggers = append(s.Triggers, t)
			if registry.IsHeadlessByPods(c.New) {
				s.Headless = append(s.Headless, t)
			}
		}
	}
}

// trigger returns when the last happened of what made an EndpointSlice as it is,
// or the zero time.
func trigger(slice registry.Object) time.Time {
	if slice == nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, slice.GetAnnotations()[corev1.EndpointsLastChangeTriggerTime])
	if err != nil {
		return time.Time{}
	}
	return t
}

// Progress says how far a Proxy has come.
type Progress struct {
	Queued  time.Time // when the last Sync had something to do
	Synced  time.Time // when the last one was done
	Pending *Sync     // the one that is under way; nil: none
}

// Progress returns how far the Proxy has come.
func (p *Proxy) Progress() Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.progress
}

// begin notes that s is under way, until the function is called that it
// returns.
func (p *Proxy) begin(s Sync) (end func()) {
	start := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress.Queued, p.progress.Pending = start, &s
	return func() {
		done := s
		done.Took = time.Since(start)
		p.mu.Lock()
		p.progress.Synced, p.progress.Pending = time.Now(), nil
		p.mu.Unlock()
		p.options.Observe(done)
	}
}
