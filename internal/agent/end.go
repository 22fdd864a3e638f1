package agent

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// exitTerminated is what a shell says of a process that SIGTERM ended, and what
// programs exit with that tidy up first, such as a JVM.
const exitTerminated = 128 + int(syscall.SIGTERM)

// terminate stops the process in the order that loses no connection: the Pod
// turns terminating, and only when this node sends it no new ones does the
// process get SIGTERM; after the grace period, SIGKILL. grace is that of a
// deletion under way, in seconds.
func (r *replica) terminate(ctx context.Context, grace *int64) {
	requests := context.WithoutCancel(ctx)
	if grace == nil {
		grace = r.pod.Spec.TerminationGracePeriodSeconds
	}
	if r.pod.DeletionTimestamp == nil {
		unkilled, cancel := r.untilKilled(requests)
		_ = r.try(unkilled, func(ctx context.Context) error { return r.delete(ctx, *grace) })
		cancel()
	}
	r.say("pod/%s terminating", r.pod.Name)
	if r.process == nil { // it would have been started again
		close(r.gone)
		_ = r.try(requests, r.remove)
		r.say("pod/%s ended", r.name)
		return
	}
	r.events.tell(reasonKilling, fmt.Sprintf(messageKilling, r.pod.Spec.Containers[0].Name))
	r.process.signal(syscall.SIGTERM)
	limit := time.NewTimer(time.Duration(*grace) * time.Second)
	defer limit.Stop()
	select {
	case <-r.process.dead:
	case <-limit.C:
		r.say("pod/%s did not end within %d s: killed", r.name, *grace)
	case <-r.Kill:
	}
	r.process.signal(syscall.SIGKILL)
	<-r.process.dead
	close(r.gone)
	_ = r.try(requests, r.remove)                      // what is left ends with the lease
	if code := r.exited(ctx); code != exitTerminated { // then it did as it was told
		r.count(code)
	}
}

// ended removes the Pod of a process that ended by itself, and is not started
// again.
func (r *replica) ended(ctx context.Context) {
	close(r.gone)
	requests := context.WithoutCancel(ctx)
	err := r.try(requests, r.remove)
	r.count(r.exited(ctx))
	for err != nil {
		// The lease still holds the Pod, for the sake of the other replicas.
		select {
		case <-time.After(retryPeriod):
		case <-r.over: // the lease ends now, by itself at the latest
			return
		case <-ctx.Done():
			return
		}
		err = r.try(requests, r.remove)
	}
}

// exited says how the process ended, after its last words, and returns its exit
// code. It waits for a reader that stalls until there is no more time for that.
func (r *replica) exited(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, outputPatience)
	defer cancel()
	select {
	case <-r.process.drained:
	case <-ctx.Done():
		select {
		case <-r.process.drained:
		case <-time.After(outputDelay):
			r.say("pod/%s: nobody reads its output: the rest is lost", r.name)
		}
	}
	code, sig := r.process.status()
	if sig != 0 {
		r.say("pod/%s ended by signal %d (%v)", r.name, int(sig), sig)
	} else {
		r.say("pod/%s ended with exit code %d", r.name, code)
	}
	return code
}
