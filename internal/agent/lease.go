package agent

import (
	"context"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	// leaseTTL is how long the Pods outlive an agent that was killed.
	leaseTTL = 5 * time.Second

	// leasePeriod leaves room for two renewals that fail before the lease ends.
	leasePeriod = leaseTTL * 3 / 10

	// leaseRetry is the pause after a renewal that failed. A daemon that starts
	// again is to find the lease renewed before it has ended.
	leaseRetry = 500 * time.Millisecond
)

// A Leaser grants, renews and ends leases.
type Leaser interface {
	// GrantLease grants a lease and returns its name.
	GrantLease(ctx context.Context, ttl time.Duration) (string, error)
	// RenewLease restarts the time of a lease. It answers NotFound for one that
	// has ended.
	RenewLease(ctx context.Context, name string) error
	// RevokeLease ends a lease and with it the Pods under it.
	RevokeLease(ctx context.Context, name string) error
}

// A lease keeps the Pods of one agent in the registry. It is renewed for as
// long as the agent lives, and granted anew when it has ended all the same: the
// machine slept, or the daemon was away for longer than the lease's time. Only
// monotonic time counts, so that a step of the clock ends nothing.
type lease struct {
	api Leaser
	say func(format string, a ...any)

	mu      sync.Mutex    // held over a renewal, so that two never grant twice
	name    string        // guarded by mu
	changed chan struct{} // guarded by mu; closed when name changes
	lost    bool          // guarded by mu; the last renewal had no answer
}

// newLease grants a lease.
func newLease(ctx context.Context, api Leaser, say func(format string, a ...any)) (*lease, error) {
	name, err := api.GrantLease(ctx, leaseTTL)
	if err != nil {
		return nil, err
	}
	return &lease{api: api, say: say, name: name, changed: make(chan struct{})}, nil
}

// current returns the name of the lease, and a channel that is closed when it
// is no longer the current one.
func (l *lease) current() (name string, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.name, l.changed
}

// keep renews the lease until ctx is done.
func (l *lease) keep(ctx context.Context) {
	wait := leasePeriod
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = leasePeriod
		if _, err := l.renew(ctx); err != nil {
			wait = leaseRetry
		}
	}
}

// renew restarts the time of the lease, or grants a new one if it has ended,
// and returns the name of the one that holds now.
func (l *lease) renew(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, leasePeriod)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.api.RenewLease(ctx, l.name)
	if apierrors.IsNotFound(err) {
		var name string
		if name, err = l.api.GrantLease(ctx, leaseTTL); err == nil {
			l.name = name
			close(l.changed)
			l.changed = make(chan struct{})
		}
	}
	if lost := err != nil && context.Cause(ctx) != context.Canceled; lost != l.lost {
		l.lost = lost
		if lost {
			reason, _, _ := strings.Cut(err.Error(), "\n") // without advice to who just asked
			l.say("the daemon does not answer; the processes run on: %s", reason)
		} else {
			l.say("the daemon answers again")
		}
	}
	return l.name, err
}

// revoke ends the lease and with it whatever is still under it.
func (l *lease) revoke(ctx context.Context) error {
	name, _ := l.current()
	err := l.api.RevokeLease(ctx, name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
