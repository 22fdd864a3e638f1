package agent

import (
	"context"
	"fmt"
	"io"
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"usher/registry"
)

// API is what the agent needs of the daemon. Its errors are those of
// Kubernetes' API where the daemon answered, and others where it did not.
type API interface {
	Leaser
	Get(ctx context.Context, key registry.Key) (registry.Object, error)
	Create(ctx context.Context, obj registry.Object) (registry.Object, error)
	Update(ctx context.Context, obj registry.Object) (registry.Object, error)
	UpdateStatus(ctx context.Context, obj registry.Object) (registry.Object, error)
	Delete(ctx context.Context, key registry.Key, opts metav1.DeleteOptions) error
	// Watch follows the objects of a Kind in a namespace. It has begun when
	// Watch returns: whatever is changed after that is in it.
	Watch(ctx context.Context, kind *registry.Kind, namespace string) (watch.Interface, error)
}

// An Agent runs Workloads.
type Agent struct {
	API      API
	NodeName string // of the node that the processes are on

	// Stdout and Stderr get the output of the processes, and Stderr also a line
	// whenever the state of a Pod changes. With Prefix every line of a process
	// begins with the name of its Pod; without, the processes get the writers
	// as they are. Several goroutines write to them, and one that stalls holds
	// up neither the end of a process nor that of its Pod.
	Stdout, Stderr io.Writer
	Prefix         bool

	// PrefixOf returns what the lines of a Pod begin with under Prefix. If nil,
	// that is the name and a bar.
	PrefixOf func(pod string) string

	// LogDir is a directory of the daemon's, where it looks for what the
	// processes have written. If empty, that is not kept.
	LogDir string

	// Environ is what the processes find in their environment beside what it
	// says about their Pod.
	Environ []string

	// Network returns the Network of a replica, by the address of its Pod. If nil,
	// they see what the agent does.
	Network func(address netip.Addr) Network

	// Kill, when closed, ends the processes at once instead of asking them to.
	Kill <-chan struct{}

	// Watchdog is the command of a process that calls RunWatchdog. It ends the
	// processes, and what they started, when the agent is killed. Without it
	// Linux ends the processes alone, and other systems nothing.
	Watchdog []string
}

// Run runs w until each of its processes has ended by itself and is not to be
// started again, been stopped by the deletion of its Pod, or been stopped because
// ctx is done. No Pod of w is left then, if the daemon answers; if not, they end
// with their lease.
//
// Of processes that were started again only the last one counts. Run returns the
// first exit code that is not 0, where 128 is added to the number of a signal that
// ended a process. A process that ends by the SIGTERM that it was sent, or exits
// with 143 upon it, counts as 0.
func (a *Agent) Run(ctx context.Context, w Workload) (int, error) {
	if err := w.Validate(); err != nil {
		return 0, err
	}
	if err := lookCommand(w.Command[0], w.Dir); err != nil {
		return 0, err
	}
	g := &group{
		Agent:  a,
		stdout: &lockedWriter{w: a.Stdout},
		stderr: &lockedWriter{w: a.Stderr},
		over:   make(chan struct{}),
		slots:  make(chan struct{}, maxProbes),
	}
	var err error
	if len(a.Watchdog) > 0 {
		if g.watchdog, err = startWatchdog(a.Watchdog); err != nil {
			return 0, fmt.Errorf("start the watchdog: %w", err)
		}
		defer g.watchdog.stop()
	}
	g.talker = newTalker(g.stderr)
	defer g.talker.close()
	if g.lease, err = newLease(ctx, a.API, g.say); err != nil {
		return 0, fmt.Errorf("grant a lease: %w", err)
	}
	err = g.run(ctx, w)
	return g.code, err
}
