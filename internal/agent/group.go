package agent

import (
	"context"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"

	"usher/registry"
)

// A group is the replicas of one Workload.
type group struct {
	*Agent
	stdout, stderr *lockedWriter
	talker         *talker
	watchdog       *watchdog // nil without one
	lease          *lease
	replicas       []*replica
	over           chan struct{} // closed once every process has ended
	slots          chan struct{} // has an element for each readiness probe under way

	mu   sync.Mutex
	code int // guarded by mu; the first exit code that is not 0
}

// say writes a line about the state of things.
func (g *group) say(format string, a ...any) { g.talker.talk(format, a...) }

// run creates the Pods, starts the processes and waits for their end. The
// lease holds from before the first Pod until after the last one.
func (g *group) run(ctx context.Context, w Workload) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { g.lease.keep(background) })
	err := g.start(ctx, w)
	if err == nil {
		wg.Go(func() { g.watch(background, w.Namespace) })
		g.serve(ctx)
	}
	stop()
	wg.Wait()
	g.release(ctx)
	return err
}

// start creates every Pod and starts its process, or leaves no process behind.
func (g *group) start(ctx context.Context, w Workload) (err error) {
	defer func() {
		if err != nil {
			g.abort()
		}
	}()
	deadline := time.Now().Add(leaseTTL + time.Second)
	for i := range w.Replicas {
		pod := w.pod(i, g.NodeName)
		r := &replica{group: g, workload: w, name: pod.Name, poke: make(chan struct{}, 1), gone: make(chan struct{})}
		if err := g.create(ctx, r, pod, deadline); err != nil {
			return err
		}
		g.replicas = append(g.replicas, r)
	}
	for _, r := range g.replicas {
		if err := r.start(ctx); err != nil {
			return fmt.Errorf("start pod %s: %w", r.pod.Name, err)
		}
	}
	return nil
}

// create creates the Pod of r. One that an agent left behind when it was killed
// may have the name still: its lease has until deadline to end.
func (g *group) create(ctx context.Context, r *replica, pod *corev1.Pod, deadline time.Time) error {
	for waiting := false; ; waiting = true {
		err := r.create(ctx, pod)
		if !apierrors.IsAlreadyExists(err) || time.Now().After(deadline) || !g.leased(ctx, pod) {
			return err
		}
		if !waiting {
			g.say("pod/%s exists already: waiting for its lease to end", pod.Name)
		}
		select {
		case <-time.After(retryPeriod):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// leased reports whether the Pod that has pod's name is under a lease.
func (g *group) leased(ctx context.Context, pod *corev1.Pod) bool {
	obj, err := g.API.Get(ctx, registry.KeyOf(pod))
	return apierrors.IsNotFound(err) || err == nil && obj.GetAnnotations()[registry.AnnotationLease] != ""
}

// serve waits until every replica has ended.
func (g *group) serve(ctx context.Context) {
	var wg sync.WaitGroup
	for _, r := range g.replicas {
		wg.Go(func() { r.run(ctx) })
	}
	for _, r := range g.replicas {
		<-r.gone
	}
	close(g.over)
	wg.Wait()
}

// abort ends the processes that have been started.
func (g *group) abort() {
	for _, r := range g.replicas {
		if r.process != nil {
			r.process.signal(syscall.SIGKILL)
			<-r.process.dead
		}
		r.closeLog()
	}
}

// release ends the lease, and with it the Pods that are still there.
func (g *group) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	if err := g.lease.revoke(ctx); err != nil {
		g.say("the lease could not be ended; the Pods go with it within %v: %v", leaseTTL, err)
	}
}

// watch wakes the replica whose Pod was deleted or turned terminating, until
// ctx is done. Whenever a watch begins it wakes all: something may have
// happened before.
func (g *group) watch(ctx context.Context, namespace string) {
	for ctx.Err() == nil {
		g.follow(ctx, namespace)
		select {
		case <-time.After(retryPeriod):
		case <-ctx.Done():
		}
	}
}

// follow is one watch, until it breaks.
func (g *group) follow(ctx context.Context, namespace string) {
	w, err := g.API.Watch(ctx, registry.Pods, namespace)
	if err != nil {
		return // that the daemon does not answer is the lease's to say
	}
	defer w.Stop()
	for _, r := range g.replicas {
		r.wake()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case ev, ok := <-w.ResultChan():
			if !ok {
				return
			}
			if pod, ok := ev.Object.(*corev1.Pod); ok && (ev.Type == watch.Deleted || pod.DeletionTimestamp != nil) {
				g.wake(pod)
			}
		}
	}
}

// wake wakes the replica that has the name of pod.
func (g *group) wake(pod *corev1.Pod) {
	for _, r := range g.replicas {
		if r.name == pod.Name {
			r.wake()
		}
	}
}

// untilKilled returns a context that ends with ctx or when Kill is closed: a
// daemon that hangs must not keep a process alive that is to be killed.
func (g *group) untilKilled(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-g.Kill:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() { cancel(); wg.Wait() }
}

// count takes the exit code of a process.
func (g *group) count(code int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.code == 0 {
		g.code = code
	}
}

// output returns where a process writes to.
func (g *group) output(pod string) (stdout, stderr io.Writer) {
	if !g.Prefix {
		return g.Stdout, g.Stderr
	}
	prefix := pod + " | "
	if g.PrefixOf != nil {
		prefix = g.PrefixOf(pod)
	}
	return &lineWriter{w: g.stdout, prefix: prefix}, &lineWriter{w: g.stderr, prefix: prefix}
}
