//go:build amd64 || arm64

package direct

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"

	"usher/registry"
)

// A Translator is what several programs have in common: a copy of the registry
// that follows the daemon, and a nameserver.
type Translator struct {
	state     *state
	names     names
	network   network
	ledger    *ledger
	leave     func() // has the ledger closed
	tell      func(line string)
	otherwise string

	stop    context.CancelFunc
	running sync.WaitGroup

	mu          sync.Mutex // guards the following
	supervisors map[*supervisor]bool

	said sync.Map // what has been said, once each
}

// Open returns a Translator. The caller must close it, after the programs have
// ended: those that are left reach what they reached last, and no names.
func Open(o Options) (*Translator, error) {
	t, err := begin(o)
	if err != nil {
		return nil, err
	}
	<-t.state.listed
	if err := t.state.failed; err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// begin is Open for programs that are to start at once. What they ask waits
// until there is an answer.
func begin(o Options) (*Translator, error) {
	network, err := ourNetwork()
	if err != nil {
		return nil, fmt.Errorf("look at the network namespace: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	t := &Translator{
		network: network, tell: o.Say, otherwise: o.Otherwise, stop: stop, supervisors: make(map[*supervisor]bool), state: newState(&o),
	}
	if t.names, err = serveNames(ctx, &t.running, o, t.state); err != nil {
		t.Close()
		return nil, err
	}
	t.account(ctx, o.Client)
	t.state.moved, t.state.cut = t.repin, t.cut
	t.running.Go(func() {
		t.state.begin(ctx, o.Services)
		t.state.follow(ctx)
	})
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + spareProcs)
	return t, nil
}

// Close ends what Open began.
func (t *Translator) Close() {
	if t.leave != nil { // it was opened
		t.leave()
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) - spareProcs)
	}
	t.stop()
	t.running.Wait()
}

// repin has each supervisor look at its flows.
func (t *Translator) repin(key registry.FrontendKey, serves func(netip.AddrPort) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.supervisors {
		s.repin(key, serves)
	}
}

// complain says why there is nothing to reach, should that be so.
func (t *Translator) complain() {
	<-t.state.listed
	if err := t.state.failed; err != nil && !errors.Is(err, context.Canceled) {
		t.say("Services are refused until the daemon answers: " + err.Error())
	}
}

// say tells the user something, once.
func (t *Translator) say(line string) {
	if _, said := t.said.LoadOrStore(line, true); !said {
		t.tell(line)
	}
}
