// Package dns answers the Kubernetes DNS specification (schema 1.1.0) over the
// registry, and forwards every other name to upstream nameservers.
//
// A query becomes records in three steps: its name is read (zone.go,
// reverse.go), a Snapshot is asked (service.go), and the records become a
// message that fits the client (message.go). Nothing of ours is cached, so an
// answer is never older than the Store, and never waits for etcd. The answers
// are right for the View in which the query arrived.
//
// What resolvers need, and what each rule is for:
//
//   - A name that exists without the wanted type is NOERROR with an SOA, never
//     NXDOMAIN: musl gives up on a Service whose AAAA is NXDOMAIN.
//   - A name of ours that does not exist is NXDOMAIN with an SOA, at once, so
//     that a walk along a search list goes on.
//   - Before the first sync names of ours are SERVFAIL: an absent Service
//     means nothing yet, and an NXDOMAIN would be cached. Never after it.
//   - A headless Service without ready endpoints is NXDOMAIN (specification
//     2.4.1). A Service with a ClusterIP resolves from its creation on.
//   - Without any upstream a foreign name is NXDOMAIN. REFUSED would be more
//     honest, but musl retries it until its timeout, and a program that asks
//     for a name that nobody can have must not hang.
//
// What upstreams say is remembered for a little while (cache.go), a "no" for no
// more than a second, and has no addresses of Services in it (rebind.go). The
// package does no zone transfers, no dynamic updates and no DNSSEC.
package dns

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/miekg/dns"

	"usher/registry"
)

// PodNames says which names of the form a-b-c-d.<namespace>.pod.<domain>
// exist.
type PodNames int

const (
	PodsDisabled PodNames = iota // none, as by default in CoreDNS
	PodsInsecure                 // all below an existing namespace: the address in the name is echoed
	PodsVerified                 // those of Pods that have not ended, below their namespace
)

// Options are what a Server is made of.
type Options struct {
	Store *registry.Store

	// Domain is the cluster domain. If "", cluster.local.
	Domain string

	// ServiceCIDR are the ranges of the ClusterIPs. Reverse names inside them,
	// and inside 127.0.0.0/8, are never forwarded.
	ServiceCIDR []netip.Prefix

	// Pods says which names Pods have.
	Pods PodNames

	// EndpointPodNames gives an endpoint without a hostname the name of its Pod,
	// in place of its address with dashes.
	EndpointPodNames bool

	// Upstreams returns the nameservers for all other names, the best first,
	// and is called for each query forwarded. If nil, or when it returns none,
	// those names do not exist.
	Upstreams func() []netip.AddrPort

	// IsService reports whether an address is one that Services have in a View.
	// Those are taken out of what upstreams say, but for names in and below
	// RebindDomains. If nil, no address is.
	IsService     func(netip.Addr) bool
	RebindDomains []string

	// Autopath answers Pods along their search list, of which Search returns
	// the domains of the host. If Search is nil, it has none.
	Autopath bool
	Search   func() []string

	// Namespace, if not "", is that of the programs which ask: their names are
	// completed along the search list of its Pods, in the cluster domain, before
	// they are looked for as they are. Clients need no search list then.
	Namespace string

	// Log is told what goes wrong. If nil, nobody is.
	Log *slog.Logger
}

// A View is a place where ClusterIPs are visible, with a nameserver in it.
type View struct {
	Name   string
	Addr   netip.AddrPort // of the nameserver; port 0 picks a free one
	Device string         // if not "", the sockets are bound to it (Linux)

	// Sockets, if not nil, has those of another network namespace, where Addr is.
	Sockets Sockets

	// Address returns the address that a ClusterIP has in the View, or the zero
	// Addr when it has none. If nil, the ClusterIP itself.
	Address func(clusterIP netip.Addr) netip.Addr

	// ClusterIP is the reverse of Address. It returns false for an address
	// outside the View's range.
	ClusterIP func(netip.Addr) (netip.Addr, bool)

	// Port returns the port that a Frontend is open on in the View. If nil,
	// its own.
	Port func(registry.FrontendKey) uint16
}

// Sockets opens sockets, which the caller closes.
type Sockets interface {
	ListenUDP(ctx context.Context, at netip.AddrPort) (*net.UDPConn, error)
	ListenTCP(ctx context.Context, at netip.AddrPort) (*net.TCPListener, error)
}

func (v *View) address(clusterIP netip.Addr) netip.Addr {
	if v.Address == nil {
		return clusterIP
	}
	return v.Address(clusterIP)
}

func (v *View) clusterIP(addr netip.Addr) (netip.Addr, bool) {
	if v.ClusterIP == nil {
		return netip.Addr{}, false
	}
	return v.ClusterIP(addr)
}

func (v *View) port(key registry.FrontendKey) uint16 {
	if v.Port == nil {
		return key.Port
	}
	return v.Port(key)
}

// A Server answers queries over a Store. Listen opens its sockets.
type Server struct {
	store   *registry.Store
	zone    *zone
	forward *forwarder
	rebind  *rebindFilter
	limit   limiter

	autopath  bool
	search    func() []string
	namespace string

	stats counters
	log   *slog.Logger

	mu        sync.Mutex              // guards the following
	listening map[netip.AddrPort]bool // our own sockets: never forwarded to
}

// New returns a Server that has no sockets yet.
func New(o Options) *Server {
	s := &Server{
		store:     o.Store,
		zone:      newZone(o),
		rebind:    newRebindFilter(o),
		autopath:  o.Autopath,
		search:    o.Search,
		namespace: o.Namespace,
		log:       o.Log,
		listening: make(map[netip.AddrPort]bool),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if o.Upstreams != nil {
		s.forward = newForwarder(func() []netip.AddrPort { return s.withoutOwn(o.Upstreams()) })
	}
	return s
}

// Resolve answers q from snap as it is seen in v. It does no I/O, and returns
// false for a name that is to be forwarded. It is safe for concurrent use.
func (s *Server) Resolve(snap *registry.Snapshot, v View, q dns.Question) (Answer, bool) {
	return s.zone.resolve(snap, &v, q)
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	stats := s.stats.snapshot()
	if s.forward != nil {
		stats.Cache = s.forward.cache.stats()
	}
	return stats
}

// withoutOwn leaves out the upstreams that are sockets of ours: a resolv.conf
// that names them would make every foreign name a loop.
func (s *Server) withoutOwn(upstreams []netip.AddrPort) []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	var others []netip.AddrPort
	for _, u := range upstreams {
		wildcard4 := netip.AddrPortFrom(netip.IPv4Unspecified(), u.Port())
		wildcard6 := netip.AddrPortFrom(netip.IPv6Unspecified(), u.Port())
		own := s.listening[u] || u.Addr().IsLoopback() && (s.listening[wildcard4] || s.listening[wildcard6])
		if !own {
			others = append(others, u)
		}
	}
	return others
}

func (s *Server) setListening(addr netip.AddrPort, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.listening[addr] = true
	} else {
		delete(s.listening, addr)
	}
}
