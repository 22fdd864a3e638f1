package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

const (
	// forwardTimeout bounds a forwarded query in all. glibc and musl ask again
	// after 5 s: the answer, or SERVFAIL, comes well before.
	forwardTimeout = 2 * time.Second

	// hedgeAfter is how long one upstream is waited for before the next is
	// asked as well: longer than nearly every answer takes.
	hedgeAfter = 300 * time.Millisecond

	// maxForwards bounds the queries that are forwarded at once, as Kubernetes'
	// Corefile does (max_concurrent).
	maxForwards = 1000

	// restFor is how long an upstream that gave no answer is asked after the
	// others: that it is silent is found out once, not by each query.
	restFor = 10 * time.Second

	// maxUpstreams is as many as a resolver uses (resolv.conf(5)).
	maxUpstreams = 3
)

var (
	errNoUpstream = errors.New("no upstream nameserver")
	errLeft       = errors.New("left to another")
	errBusy       = errors.New("too many queries are being forwarded")
)

// A forwarder asks upstreams. Equal queries under way share one answer: that
// leaves a forger one chance instead of many (CVE-2023-30464), and ends a loop
// through another resolver at its second turn. What was said a moment ago is
// not asked again.
type forwarder struct {
	upstreams func() []netip.AddrPort
	slots     chan struct{} // one taken by each query under way
	flights   singleflight.Group
	cache     cache

	mu      sync.Mutex                   // guards the following
	resting map[netip.AddrPort]time.Time // until when
}

func newForwarder(upstreams func() []netip.AddrPort) *forwarder {
	return &forwarder{upstreams: upstreams, slots: make(chan struct{}, maxForwards), resting: make(map[netip.AddrPort]time.Time)}
}

// ask forwards query and returns the answer, which belongs to the caller. It
// returns errNoUpstream when there is nobody to ask.
func (f *forwarder) ask(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	upstreams := f.upstreams()
	if len(upstreams) == 0 {
		return nil, errNoUpstream
	}
	key := flightKey(query)
	if reply := f.cache.get(key, upstreams); reply != nil {
		return reply, nil
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return nil, errBusy
	}
	reply, err, shared := f.flights.Do(key, func() (any, error) {
		reply, err := f.race(ctx, f.inOrder(upstreams), query)
		if err == nil {
			f.cache.put(key, upstreams, reply)
		}
		return reply, err
	})
	if err != nil {
		return nil, err
	}
	if shared {
		return reply.(*dns.Msg).Copy(), nil
	}
	return reply.(*dns.Msg), nil
}

// inOrder returns the upstreams to ask: as they are given, but for those that
// rest.
func (f *forwarder) inOrder(upstreams []netip.AddrPort) []netip.AddrPort {
	f.mu.Lock()
	defer f.mu.Unlock()
	var first, last []netip.AddrPort
	for _, u := range upstreams[:min(len(upstreams), maxUpstreams)] {
		if time.Now().Before(f.resting[u]) {
			last = append(last, u)
		} else {
			first = append(first, u)
		}
	}
	return append(first, last...)
}

// heard notes whether an upstream answered.
func (f *forwarder) heard(upstream netip.AddrPort, answered bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if answered {
		delete(f.resting, upstream)
		return
	}
	for u, until := range f.resting { // of those that are upstreams no more
		if !time.Now().Before(until) {
			delete(f.resting, u)
		}
	}
	f.resting[upstream] = time.Now().Add(restFor)
}

// flightKey is equal for queries that have the same answer.
func flightKey(query *dns.Msg) string {
	q := query.Question[0]
	edns, do := false, false
	if opt := query.IsEdns0(); opt != nil {
		edns, do = true, opt.Do()
	}
	return fmt.Sprint(dns.CanonicalName(q.Name), q.Qtype, query.RecursionDesired, query.CheckingDisabled, query.AuthenticatedData, edns, do)
}

// An outcome is how one upstream answered.
type outcome struct {
	reply *dns.Msg
	err   error
}

// race asks the upstreams one after the other, twice around, the next one as
// soon as one fails or is silent for hedgeAfter. The first answer that settles
// the question wins. One that settles nothing (SERVFAIL, REFUSED) is returned
// when there is no better.
func (f *forwarder) race(ctx context.Context, upstreams []netip.AddrPort, query *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	attempts := 2 * len(upstreams)
	outcomes := make(chan outcome, attempts) // so that nobody waits to be heard
	next := time.NewTimer(0)
	defer next.Stop()
	last := outcome{err: errors.New("no answer in time")}
	for started, ended := 0, 0; ended < attempts; {
		select {
		case <-next.C:
			if started == attempts {
				continue
			}
			upstream := upstreams[started%len(upstreams)]
			wg.Go(func() {
				reply, err := exchange(ctx, upstream, query)
				f.heard(upstream, err == nil)
				outcomes <- outcome{reply, err}
			})
			started++
			next.Reset(hedgeAfter)
		case o := <-outcomes:
			if o.err == nil && settles(o.reply) {
				return o.reply, nil
			}
			if o.err == nil || last.reply == nil {
				last = o
			}
			ended++
			next.Reset(0)
		case <-ctx.Done():
			return last.reply, last.err
		}
	}
	return last.reply, last.err
}

// settles reports whether another upstream would not know better.
func settles(reply *dns.Msg) bool {
	return reply.Rcode == dns.RcodeSuccess || reply.Rcode == dns.RcodeNameError
}

// exchange asks one upstream over UDP, and over TCP when the answer is cut. It
// runs in a goroutine of its own, where a panic would end the process.
func exchange(ctx context.Context, upstream netip.AddrPort, query *dns.Msg) (reply *dns.Msg, err error) {
	defer func() {
		if v := recover(); v != nil {
			reply, err = nil, fmt.Errorf("ask %s: panic: %v", upstream, v)
		}
	}()
	reply, err = exchangeOver(ctx, "udp", upstream, query)
	if err != nil || !reply.Truncated {
		return reply, err
	}
	if whole, err := exchangeOver(ctx, "tcp", upstream, query); err == nil {
		return whole, nil
	}
	return reply, nil // cut, and says so
}

// exchangeOver asks over a socket of its own, so that the port is as random as
// the ID is, and a connected one, so that the kernel drops what comes from
// elsewhere and reports a port that is closed.
func exchangeOver(ctx context.Context, network string, upstream netip.AddrPort, query *dns.Msg) (*dns.Msg, error) {
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, network, upstream.String())
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", upstream, err)
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	query = query.Copy()
	query.Id = dns.Id()
	conn := &dns.Conn{Conn: nc, UDPSize: dns.DefaultMsgSize}
	if err := conn.WriteMsg(query); err != nil {
		return nil, fmt.Errorf("ask %s: %w", upstream, err)
	}
	for {
		reply, err := conn.ReadMsg()
		if _, isNet := errors.AsType[net.Error](err); isNet || err != nil && network == "tcp" {
			return nil, fmt.Errorf("ask %s: %w", upstream, err)
		}
		// What does not match is somebody else's, and says nothing about the
		// one that does (CVE-2023-28452).
		if err == nil && matches(query, reply) {
			return reply, nil
		}
	}
}

// matches reports whether reply answers query.
func matches(query, reply *dns.Msg) bool {
	if !reply.Response || reply.Id != query.Id || reply.Opcode != query.Opcode || len(reply.Question) != 1 {
		return false
	}
	q, r := query.Question[0], reply.Question[0]
	return r.Qtype == q.Qtype && r.Qclass == q.Qclass && strings.EqualFold(r.Name, q.Name)
}
