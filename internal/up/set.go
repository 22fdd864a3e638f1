package up

import (
	"context"
	"reflect"
	"slices"
	"sync"
)

// A Runner runs the processes of one kind until they have ended or ctx is done,
// and returns their exit code.
type Runner func(ctx context.Context, p Process) (int, error)

// An exit is the end of a process that nobody asked to.
type exit struct {
	name string
	code int
	err  error
}

// A set is the processes that run.
type set struct {
	run     Runner
	exits   chan exit  // of those that ended by themselves
	running []*running // in the order in which they were started
}

// A running is a process at work. It may have ended.
type running struct {
	Process

	stop  context.CancelFunc
	told  sync.WaitGroup // for its goroutine
	ended chan struct{}  // closed when it has ended
	err   error          // of its run; valid once ended is closed
}

func newSet(run Runner) *set { return &set{run: run, exits: make(chan exit)} }

// apply makes the set be wanted: what is not wanted any more, or otherwise, stops
// first; then what is missing starts. What has ended by itself stays so, unless
// it could not be run at all. It returns the names of what it stopped and started.
func (s *set) apply(ctx context.Context, wanted []Process) (stopped, started []string) {
	var going []*running
	s.running = slices.DeleteFunc(s.running, func(r *running) bool {
		stays := slices.ContainsFunc(wanted, func(p Process) bool { return reflect.DeepEqual(p, r.Process) })
		if stays && !r.failed() {
			return false
		}
		going = append(going, r)
		if !r.over() {
			stopped = append(stopped, r.Name)
		}
		return true
	})
	var wg sync.WaitGroup
	for _, r := range going {
		wg.Go(r.end)
	}
	wg.Wait()
	for _, p := range wanted {
		if !slices.ContainsFunc(s.running, func(r *running) bool { return r.Name == p.Name }) {
			s.start(ctx, p)
			started = append(started, p.Name)
		}
	}
	return stopped, started
}

// start runs p in a goroutine that end waits for.
func (s *set) start(ctx context.Context, p Process) {
	// Not ctx's end but that of the set stops it: one after the other.
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{Process: p, stop: stop, ended: make(chan struct{})}
	s.running = append(s.running, r)
	r.told.Go(func() {
		var code int
		code, r.err = s.run(ctx, p)
		close(r.ended)
		select {
		case s.exits <- exit{p.Name, code, r.err}:
		case <-ctx.Done():
		}
	})
}

// end stops the process and waits for it.
func (r *running) end() {
	r.stop()
	r.told.Wait()
}

func (r *running) over() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// failed reports whether the process could not be run.
func (r *running) failed() bool { return r.over() && r.err != nil }

// close stops all, the last one first: it may need those before it.
func (s *set) close() {
	for _, r := range slices.Backward(s.running) {
		r.end()
	}
	s.running = nil
}
