package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Supervision of the embedded server.
const (
	minRestart = 50 * time.Millisecond
	maxRestart = 5 * time.Second
	steady     = 5 * time.Second // a run of this length starts the back-off anew

	// So often within quickPeriod a child that was killed is started again
	// without a back-off. The kernel kills too, when there is no memory left,
	// and would do so again.
	quickRestarts = 5
	quickPeriod   = time.Minute
)

// Supervise runs command, which has to call RunServer, in a child process
// until ctx is done, and starts it again when it ends. Its own end it reports
// to log alone: what the child does never stops the caller.
//
// The child ends with this process, however that ends: its standard input is
// a pipe from here. (Linux' parent death signal would follow the thread that
// started it, and other systems have none.)
func Supervise(ctx context.Context, command func() *exec.Cmd, log *slog.Logger) error {
	var pace pacer
	for {
		start, ready := time.Now(), false
		err := runChild(ctx, command(), log, func() {
			ready = true
			log.Info("the embedded etcd is ready", "after", time.Since(start).Round(time.Millisecond))
		})
		if ctx.Err() != nil {
			return nil
		}
		wait := pace.next(start, time.Now(), ready && wasKilled(err))
		log.Warn("the embedded etcd ended; services go on", "error", err, "restart", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// A pacer decides how soon a child is started again.
type pacer struct {
	wait  time.Duration
	quick []time.Time // when there was no back-off, within quickPeriod
}

// next returns how long to wait after a run from start to end. One that was
// killed while all was well is needed again at once. One that ends by itself
// would do so again: its disk may be full.
func (p *pacer) next(start, end time.Time, killed bool) time.Duration {
	p.quick = slices.DeleteFunc(p.quick, func(t time.Time) bool { return end.Sub(t) >= quickPeriod })
	switch {
	case end.Sub(start) > steady:
		p.wait = minRestart
	case killed && len(p.quick) < quickRestarts:
		p.quick = append(p.quick, end)
		p.wait = minRestart
	case p.wait == 0:
		p.wait = minRestart
	default:
		p.wait = min(2*p.wait, maxRestart)
	}
	return p.wait
}

// runChild runs the child once and waits for its end.
func runChild(ctx context.Context, cmd *exec.Cmd, log *slog.Logger, ready func()) error {
	parent, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	// Its own process group: Ctrl-C on a terminal is for the parent, which
	// ends the child after everything that writes to it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	exited := make(chan struct{})
	var stopping sync.WaitGroup
	stopping.Go(func() { stopChild(ctx, parent, cmd.Process, exited) })
	relay(stderr, log, ready) // the pipe is at its end when the child is
	err = cmd.Wait()
	close(exited)
	stopping.Wait()
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// stopChild ends the child when ctx is done: in order, or by force when that
// takes too long. It returns when the child has ended.
func stopChild(ctx context.Context, parent io.Closer, child *os.Process, exited <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-exited:
		return
	}
	parent.Close()
	force := time.NewTimer(stopGrace + time.Second)
	defer force.Stop()
	select {
	case <-force.C:
		child.Kill()
		<-exited
	case <-exited:
	}
}

// wasKilled reports whether the child was ended by somebody else.
func wasKilled(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
