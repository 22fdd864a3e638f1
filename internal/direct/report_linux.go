//go:build amd64 || arm64

package direct

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/api"
	"usher/internal/client"
	"usher/internal/sockdiag"
	"usher/proxy"
	"usher/registry"
)

const (
	// reportEvery is how often the daemon is told without asking. It asks when
	// somebody wants to know.
	reportEvery = time.Second

	// refused is how long a daemon that does not take reports is left alone.
	refused = 30 * time.Second

	// lastWord bounds how long the end of a run waits for the kernel to say how
	// its connections ended, and lastReport for the daemon to take that.
	lastWord   = 50 * time.Millisecond
	lastReport = time.Second
)

// A reporter tells the daemon what a ledger has. What was sent and not
// acknowledged it keeps: the daemon that is there next says whether it has it.
type reporter struct {
	*ledger
	client  *client.Client
	session string

	sequence int64                 // of the last report that was made
	flying   *api.ConnectionReport // it, until it is acknowledged
	taken    map[countKey]*amounts // the counts in it
	asked    int64                 // the last question
	answered int64

	leaving chan struct{} // closed when the run has ended

	state *state
}

// account has a ledger kept and reported until ctx is done. leave says that the
// programs have ended, and waits a little for the last word.
func (t *Translator) account(ctx context.Context, c *client.Client) {
	w, err := sockdiag.Watch()
	l := newLedger(w)
	l.byLoad = &t.state.byLoad
	t.ledger = l
	if err != nil {
		t.say("connections are not followed: " + err.Error())
	} else {
		w.Leave() // for now
		t.running.Go(l.watch)
		context.AfterFunc(ctx, func() { w.Close() })
	}
	r := &reporter{
		ledger: l, client: c, session: uuid.NewString(), leaving: make(chan struct{}), state: t.state,
	}
	done := make(chan struct{})
	t.running.Go(func() {
		defer close(done)
		r.run(ctx)
	})
	t.leave = func() {
		if !l.notes.isUsed() {
			return // there is nothing to say, and perhaps no stream yet
		}
		l.quiesce()
		close(r.leaving)
		select {
		case <-done:
		case <-time.After(lastReport):
		}
	}
}

// quiesce waits until nothing is open and unsettled any more: for a short time,
// and then for those alone of which the kernel says that they have gone, since
// word of that is on its way.
func (l *ledger) quiesce() {
	l.await(lastWord, func(*connection) bool { return true })
	_ = l.refresh()
	l.lock()
	look := l.looks
	l.mu.Unlock()
	l.await(onItsWay, func(c *connection) bool { return c.seen < look })
	l.settleOld(true)
}

// await waits until there is no connection open or unsettled that counts.
func (l *ledger) await(most time.Duration, counts func(*connection) bool) {
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(time.Millisecond) {
		l.lock()
		waits := slices.ContainsFunc(slices.Collect(maps.Values(l.pairs)), counts)
		l.mu.Unlock()
		if !waits {
			return
		}
	}
}

// run reports until ctx is done, or until the last report was taken after
// leaving.
func (r *reporter) run(ctx context.Context) {
	for wait := minRetry; ; {
		err := r.connected(ctx)
		if err == nil {
			return
		}
		if errors.Is(err, errStreamEnded) {
			wait = minRetry
		}
		if status := apierrors.APIStatus(nil); errors.As(err, &status) && status.Status().Code < http.StatusInternalServerError {
			wait = refused
		}
		select {
		case <-time.After(wait):
		case <-r.leaving: // a daemon that is not there does not hold us up
			return
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, maxRetry)
	}
}

var errStreamEnded = errors.New("the stream of reports has ended")

// connected reports to a daemon until it is gone. Without an error all is said.
func (r *reporter) connected(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := r.client.Report(ctx, r.session)
	if err != nil {
		return err
	}
	defer stream.Close()
	defer r.state.tellLoads(nil) // nobody says any more
	hello, err := stream.Next()
	if err != nil {
		return errStreamEnded
	}
	r.resume(hello.Sequence)
	answers := make(chan api.ReportAnswer)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer close(answers)
		for {
			a, err := stream.Next()
			if err != nil {
				return
			}
			select {
			case answers <- a:
			case <-ctx.Done():
				return
			}
		}
	})
	return r.converse(ctx, stream, answers)
}

// converse sends reports, one at a time, and takes answers.
func (r *reporter) converse(ctx context.Context, stream *client.ReportStream, answers <-chan api.ReportAnswer) error {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	leaving := r.leaving
	var soon <-chan time.Time // when those who choose by load are to know
	due := true
	for {
		if r.flying == nil && (due || r.asked > r.answered) {
			report := r.make()
			if leaving == nil && r.empty(report) {
				return nil
			}
			due = len(report.Open) == api.MaxReported || len(report.Counts) == api.MaxReported || leaving == nil
			if err := stream.Send(*report); err != nil {
				return errStreamEnded
			}
		}
		select {
		case a, ok := <-answers:
			switch {
			case !ok:
				return errStreamEnded
			case a.Ask > 0:
				r.asked = a.Ask
			case a.Elsewhere != nil:
				r.state.tellLoads(a.Elsewhere)
				r.state.byLoad.heard()
			case r.flying != nil && a.Sequence == r.flying.Sequence:
				r.acknowledged()
			}
		case <-tick.C:
			r.rest()
			due = due || r.changed()
		case <-r.state.byLoad.news:
			if r.state.byLoad.untold() {
				due = true // who has just begun waits for the answer
			} else if soon == nil {
				soon = time.After(loadEvery)
			}
		case <-soon:
			soon, due = nil, due || r.changed()
		case <-leaving:
			leaving, due = nil, true
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *reporter) empty(report *api.ConnectionReport) bool {
	if len(report.Open) > 0 || len(report.Closed) > 0 || len(report.Counts) > 0 {
		return false
	}
	r.acknowledged() // nobody will
	r.sequence--
	return true
}

// resume begins a stream with a daemon that has applied reports up to last. It
// knows of no connection.
func (r *reporter) resume(last int64) {
	if r.flying != nil && r.flying.Sequence == last {
		r.acknowledged()
	}
	r.lock()
	defer r.mu.Unlock()
	for key, n := range r.taken {
		r.put(key, n)
	}
	r.flying, r.taken = nil, nil
	r.sequence, r.asked, r.answered = last, 0, 0
	r.closed = nil
	r.state.byLoad.again()
	for _, c := range r.sockets {
		c.told, c.known = false, false
	}
}

// put puts counts back. The caller must hold mu.
func (l *ledger) put(key countKey, n *amounts) {
	now := l.totals[key]
	if now == nil {
		l.totals[key] = n
		return
	}
	*now = amounts{
		now.connections + n.connections, now.up + n.up, now.down + n.down, now.dialErrors + n.dialErrors,
		now.retries + n.retries, now.unserved + n.unserved, now.resets + n.resets,
	}
}

func (r *reporter) acknowledged() { r.flying, r.taken = nil, nil }

// changed reports whether there is something to say, as far as is known: of
// those that are open the kernel is asked.
func (r *reporter) changed() bool {
	r.lock()
	defer r.mu.Unlock()
	return len(r.sockets) > 0 || len(r.totals) > 0 || len(r.closed) > 0 || len(r.unsettled) > 0 || r.state.byLoad.untold()
}

// make makes the next report.
func (r *reporter) make() *api.ConnectionReport {
	_ = r.refresh() // or else it is as it was when we last knew
	r.settleOld(false)
	r.notes.identifyAll()
	r.lock()
	defer r.mu.Unlock()
	r.sequence++
	report := &api.ConnectionReport{Sequence: r.sequence, Asked: r.asked, ByLoad: r.state.byLoad.take()}
	r.answered = r.asked
	r.taken = make(map[countKey]*amounts)
	for key, n := range r.totals {
		if len(report.Counts) == api.MaxReported {
			break
		}
		report.Counts = append(report.Counts, n.reported(key))
		r.taken[key] = n
		delete(r.totals, key)
	}
	n := min(len(r.closed), api.MaxReported)
	report.Closed, r.closed = r.closed[:n:n], r.closed[n:]
	for _, c := range r.sockets {
		if len(report.Open) == api.MaxReported {
			break
		}
		if c.pid == 0 {
			c.who = r.notes.who(c.tid)
		}
		if !c.told {
			c.told, c.known = true, true
			report.Open = append(report.Open, api.ReportedConnection{ID: c.cookie, Connection: c.reported()})
		}
	}
	r.flying = report
	return report
}

func (n *amounts) reported(key countKey) api.ReportedCounts {
	f := key.now.Load()
	out := api.ReportedCounts{
		Namespace: f.Service.Namespace, Service: f.Service.Name, Address: f.AddrPort().String(), Protocol: f.Protocol,
		Connections: n.connections, BytesUp: n.up, BytesDown: n.down, DialErrors: n.dialErrors, Retries: n.retries,
		Unserved: n.unserved, Resets: n.resets,
	}
	if key.backend.IsValid() {
		out.Backend = key.backend.String()
	}
	return out
}

func (c *connection) reported() api.Connection {
	f := c.frontend.now.Load()
	out := api.Connection{
		Namespace: f.Service.Namespace, Service: f.Service.Name, PortName: f.PortName,
		Protocol: string(f.Protocol), Client: c.Local.String(), VIP: f.AddrPort().String(), Backend: c.Remote.String(),
		StartTime: metav1.Time{Time: c.started.UTC()}, BytesUp: c.up, BytesDown: c.down, State: string(c.word()),
		Path: string(registry.PathDirect), PID: c.pid, Command: c.command,
	}
	if c.rtt > 0 {
		out.RTT = &metav1.Duration{Duration: c.rtt}
	}
	return out
}

// word returns the state of a connection as the proxy says it.
func (c *connection) word() proxy.State {
	switch c.state {
	case sockdiag.FinWait1, sockdiag.FinWait2, sockdiag.CloseWait:
		return proxy.HalfClosed
	case sockdiag.LastAck, sockdiag.Closing, sockdiag.TimeWait:
		return proxy.Closing
	}
	if c.answered {
		return proxy.Established
	}
	return proxy.Connecting
}
