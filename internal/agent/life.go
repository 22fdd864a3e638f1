package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"usher/internal/podlog"
)

// start prepares what all processes of the Pod share, and starts the first.
func (r *replica) start(ctx context.Context) (err error) {
	r.events = newEventLog(r.API, r.pod, r.NodeName)
	r.status = newStatus(r.pod)
	if r.LogDir != "" {
		if r.log, err = podlog.Create(r.LogDir, types.NamespacedName{Namespace: r.pod.Namespace, Name: r.pod.Name}); err != nil {
			r.say("pod/%s: what it writes is not kept for `usher logs`: %v", r.name, err)
		}
	}
	r.environ = slices.Concat(r.Environ, environment(r.pod))
	if r.Network != nil {
		addr, err := netip.ParseAddr(r.pod.Status.PodIP)
		if err != nil {
			return fmt.Errorf("read the address of pod %s: %w", r.name, err)
		}
		r.network = r.Network(addr)
	}
	return r.launch(ctx)
}

// launch starts a process at the address of its Pod.
func (r *replica) launch(ctx context.Context) (err error) {
	if r.check, err = newProbe(r.pod, r.workload.Ports, r.network); err != nil {
		return err
	}
	if r.prober, err = newProber(r.pod, r.check, r.runProbe); err != nil {
		return err
	}
	if r.prober != nil {
		r.prober.slots, r.prober.tell = r.slots, r.events.warn
	}
	for _, target := range r.check.before(ctx) {
		r.say("pod/%s: %v", r.name, foreignError{target})
	}
	stdout, stderr := r.writers()
	if r.process, err = startProcess(r.workload.Command, r.workload.Dir, r.environ, stdout, stderr, r.watchdog, r.network); err != nil {
		r.process = nil
		return err
	}
	leader := r.process.cmd.Process.Pid
	r.check.owns = func(inodes []uint64) (bool, bool) { return hasSocket(leader, inodes) }
	r.began = time.Now()
	setStarted(&r.status, r.began)
	r.events.tell(reasonStarted, messageStarted)
	return nil
}

// writers returns where the next process writes to. It shares none with the one
// before it, whose last words may still be on their way.
func (r *replica) writers() (stdout, stderr io.Writer) {
	stdout, stderr = r.output(r.name)
	if r.log != nil {
		stdout = &loggedWriter{stdout, r.log.Stream("stdout")}
		stderr = &loggedWriter{stderr, r.log.Stream("stderr")}
	}
	return stdout, stderr
}

// run keeps the Pod true to its process until that has ended and is not to be
// started again: by itself, because ctx is done, or because somebody deleted the
// Pod. Then it removes the Pod.
func (r *replica) run(ctx context.Context) {
	defer r.closeLog()
	events, unsaid := r.untilKilled(context.WithoutCancel(ctx))
	over := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() { r.events.run(events, over) })
	defer func() {
		close(over)
		writing.Wait()
		unsaid()
	}()
	r.serve(ctx)
}

// closeLog ends the log of the Pod. It may be called again.
func (r *replica) closeLog() {
	if r.log == nil {
		return
	}
	if err := r.log.Close(); err != nil {
		r.say("pod/%s: end its log: %v", r.name, err)
	}
	r.log = nil
}

// attend watches how the process turns, by the Pod's readinessProbe or, without
// one, by whether it listens, until stop is called. After stop turns is silent.
func (r *replica) attend(ctx context.Context) (turns <-chan error, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	turned := make(chan error)
	report := func(err error) {
		select {
		case turned <- err:
		case <-ctx.Done():
		}
	}
	watch := r.check.run
	if r.prober != nil {
		watch = r.prober.run
	}
	var wg sync.WaitGroup
	wg.Go(func() { watch(ctx, report) })
	return turned, func() { cancel(); wg.Wait() }
}

// serve is run's loop: whatever happens, it compares what is with what should
// be, so that nothing depends on every event being seen.
func (r *replica) serve(ctx context.Context) {
	turns, stop := r.attend(ctx)
	defer func() { stop() }()
	dead := r.process.dead
	silent := time.NewTimer(silentFor)
	defer silent.Stop()
	retry := time.NewTimer(0) // writes the status for the first time
	defer retry.Stop()
	var again <-chan time.Time // when the next process is to start
	for {
		select {
		case <-dead:
			if !r.restarts(ctx) {
				r.ended(ctx)
				return
			}
			stop()
			silent.Stop()
			dead, again = nil, time.After(r.crashed(ctx))
		case <-again:
			again = nil
			if pause, err := r.restart(ctx); err != nil {
				again = time.After(pause)
				break
			}
			dead = r.process.dead
			turns, stop = r.attend(ctx)
			silent.Reset(silentFor)
		case <-ctx.Done():
			r.terminate(ctx, nil)
			return
		case <-silent.C:
			r.sayWhereToListen()
			continue
		case err := <-turns:
			silent.Stop()
			r.turn(err)
		case <-r.poke:
		case <-r.renewed:
			r.renewed = nil // until the Pod is under the new one
		case <-retry.C:
		}
		err := r.reconcile(ctx)
		if deleted, ok := errors.AsType[*deletedError](err); ok {
			r.terminate(ctx, deleted.grace)
			return
		}
		r.complain(err)
		if err != nil {
			retry.Reset(retryPeriod)
		}
	}
}
