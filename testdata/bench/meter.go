//go:build linux

package main

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// warmUp is how long a turn runs before anything counts.
const warmUp = 300 * time.Millisecond

// root is the process that all of a run descend from.
var root = os.Getpid()

// A sample is what one turn of one peer showed.
type sample struct {
	Mode        string  `json:"mode"`
	Peer        string  `json:"peer"`
	Round       int     `json:"round"`
	Seconds     float64 `json:"seconds"`
	Units       float64 `json:"units"`
	Rate        float64 `json:"rate"`                  // units a second
	CPU         float64 `json:"cpu,omitempty"`         // of the proxy, µs a unit
	User        float64 `json:"user,omitempty"`        // the part of it outside the kernel
	P50         float64 `json:"p50,omitempty"`         // µs
	P99         float64 `json:"p99,omitempty"`         // µs
	Lost        float64 `json:"lost,omitempty"`        // of those sent, as a part of one
	Resident    float64 `json:"resident,omitempty"`    // bytes a connection
	Descriptors float64 `json:"descriptors,omitempty"` // a connection
	Others      float64 `json:"others"`                // CPU that was nobody's here, as a part of the machine's
}

// A meter counts what happens in the window of a turn.
type meter struct {
	take      time.Duration
	pids      []int // of the proxy
	warm, end time.Time
	counting  bool
	err       error
	begin     func() // called when the window opens, or nil
	settle    func() // called when it has closed, or nil

	units     float64
	lost      float64
	latencies []time.Duration
	before    reading
	began     time.Time
}

// A reading is the CPU time that was used until a moment.
type reading struct{ proxy, ours, machine usage }

func newMeter(take time.Duration, pids []int) *meter {
	return &meter{take: take, pids: pids, warm: time.Now().Add(warmUp), latencies: make([]time.Duration, 0, 1<<20)}
}

// tick looks at the clock, and reports whether the turn goes on.
func (m *meter) tick() bool {
	now := time.Now()
	switch {
	case m.counting:
		return now.Before(m.end)
	case now.After(m.warm):
		m.before, m.err = m.read()
		if m.begin != nil {
			m.begin()
		}
		m.units, m.lost, m.latencies = 0, 0, m.latencies[:0]
		m.counting = true
		m.began = time.Now()
		m.end = m.began.Add(m.take)
		return m.err == nil
	}
	return true
}

// done counts a unit that was begun, or was due, at the time.
func (m *meter) done(begun time.Time) {
	m.units++
	m.latencies = append(m.latencies, time.Since(begun))
}

func (m *meter) read() (r reading, err error) {
	// What ended in the meantime is gone with its time: no peer's workers do.
	if r.proxy, err = usageOf(m.pids); err != nil {
		return r, err
	}
	if r.ours, err = usageOf(tree(root)); err != nil {
		return r, err
	}
	r.machine, err = machineUsage()
	return r, err
}

// sample returns what the turn showed.
func (m *meter) sample() (sample, error) {
	if m.err != nil {
		return sample{}, m.err
	}
	took := time.Since(m.began)
	if m.settle != nil {
		m.settle()
	}
	after, err := m.read()
	if err != nil {
		return sample{}, err
	}
	if m.units == 0 {
		return sample{}, errors.New("nothing came back")
	}
	slices.Sort(m.latencies)
	proxy := after.proxy.minus(m.before.proxy)
	others := after.machine.minus(m.before.machine).total() - after.ours.minus(m.before.ours).total()
	return sample{
		Seconds: took.Seconds(),
		Units:   m.units,
		Rate:    m.units / took.Seconds(),
		CPU:     micros(proxy.total()) / m.units,
		User:    micros(proxy.user) / m.units,
		P50:     micros(quantile(m.latencies, 0.50)),
		P99:     micros(quantile(m.latencies, 0.99)),
		Lost:    m.lost / (m.lost + m.units),
		Others:  max(0, others.Seconds()/took.Seconds()/float64(runtime.NumCPU())),
	}, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// A pacer says when units are due: at a rate or, without one, always.
type pacer struct {
	gap  time.Duration
	next time.Time
}

func newPacer(rate int) *pacer {
	p := &pacer{next: time.Now()}
	if rate > 0 {
		p.gap = time.Second / time.Duration(rate)
	}
	return p
}

// due returns the time at which the next unit has to begin, if that has come.
// Latency counts from it, so that a proxy that stalls is not asked less.
func (p *pacer) due() (time.Time, bool) {
	now := time.Now()
	if p.gap == 0 {
		return now, true
	}
	if p.next.After(now) {
		return time.Time{}, false
	}
	at := p.next
	p.next = at.Add(p.gap)
	return at, true
}

// idle returns how long there is nothing to begin: until the next is due, if
// there is anything free to begin it with.
func (p *pacer) idle(free bool) time.Duration {
	const most = 50 * time.Millisecond
	if p.gap == 0 || !free {
		return most
	}
	return min(time.Until(p.next), most)
}

// precise makes this thread wake up in time, where the kernel may be 50 µs late
// otherwise. Children would inherit that, so the caller takes it back.
func precise() (restore func(), err error) {
	err = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	return func() { unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }, err
}
