package dns

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// udpSize is the largest answer sent over UDP, and the size we offer to
// receive: what passes every path unfragmented (DNS flag day 2020).
const udpSize = 1232

// packBuffers have room for what goes over UDP.
var packBuffers = sync.Pool{New: func() any { return new([2 * udpSize]byte) }}

// A responder answers the queries that arrive in one View.
type responder struct {
	*Server
	ctx  context.Context // ends queries under way at upstreams
	view *View

	// One in a hurry does not wait for upstreams: it notes that a query was left
	// to be answered by another. Only one goroutine may use it.
	hurried, left bool
}

// ServeDNS implements dns.Handler, for what comes over TCP. What it is given
// has passed dns.DefaultMsgAcceptFunc: the header of a query or a notify with
// one question, which need not be there.
func (r *responder) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	began := time.Now()
	var from netip.Addr
	if addr, ok := w.RemoteAddr().(*net.TCPAddr); ok {
		from = addr.AddrPort().Addr()
	}
	buf := packBuffers.Get().(*[2 * udpSize]byte)
	defer packBuffers.Put(buf)
	wire := r.reply(buf[:], req, from, false, began)
	if wire == nil {
		return
	}
	if _, err := w.Write(wire); err != nil {
		r.log.Debug("write DNS answer", "client", w.RemoteAddr(), "err", err)
	}
}

// reply answers a query that began to be looked at, into buf if it has room,
// and counts it. It returns nil when no answer can be given, or it is left.
func (r *responder) reply(buf []byte, req *dns.Msg, from netip.Addr, udp bool, began time.Time) []byte {
	var question dns.Question
	if len(req.Question) > 0 {
		question = req.Question[0]
	}
	wire, rcode, err := r.respond(buf, req, from, udp)
	if r.left {
		return nil
	}
	if err != nil {
		// Something in the registry or from an upstream cannot be written, or
		// is not understood.
		r.log.Error("answer DNS query", "view", r.view.Name, "name", question.Name, "type", dns.TypeToString[question.Qtype], "err", err)
		reply := new(dns.Msg).SetRcode(req, dns.RcodeServerFailure)
		rcode = reply.Rcode
		if wire, err = reply.Pack(); err != nil {
			return nil
		}
	}
	r.stats.count(question.Qtype, rcode)
	r.stats.took(question.Qtype, from, udp, time.Since(began))
	return wire
}

// respond writes the answer to req as it goes to the client, into buf if it has
// room. A panic on the way is its error: a query must not end the process,
// which is a proxy too.
func (r *responder) respond(buf []byte, req *dns.Msg, from netip.Addr, udp bool) (wire []byte, rcode int, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	reply := r.answer(req, from)
	if r.left {
		return nil, 0, nil
	}
	fit(reply, req, udp)
	wire, err = reply.PackBuffer(buf)
	if err == nil && udp && !r.limit.allow(from, len(wire)-req.Len()) {
		r.stats.limited.Add(1)
		cut(reply)
		wire, err = reply.PackBuffer(buf)
	}
	if err != nil {
		err = fmt.Errorf("pack answer: %w", err)
	}
	return wire, reply.Rcode, err
}

// cut leaves of reply what says that the answer is to be had over TCP.
func cut(reply *dns.Msg) {
	opt := reply.IsEdns0()
	reply.Answer, reply.Ns, reply.Extra = nil, nil, nil
	if opt != nil {
		reply.Extra = []dns.RR{opt}
	}
	reply.Truncated = true
}

// answer makes the whole answer to req, however long.
func (r *responder) answer(req *dns.Msg, from netip.Addr) *dns.Msg {
	if len(req.Question) != 1 { // a message may end after its header, whatever that promises
		return new(dns.Msg).SetRcode(req, dns.RcodeFormatError)
	}
	reply := new(dns.Msg).SetReply(req)
	reply.RecursionAvailable = r.forward != nil
	question := req.Question[0]
	opt := req.IsEdns0()
	switch {
	case req.Opcode != dns.OpcodeQuery:
		reply.Rcode = dns.RcodeNotImplemented
	case opt != nil && opt.Version() != 0:
		reply.Rcode = dns.RcodeBadVers
	case question.Qclass != dns.ClassINET, question.Qtype == dns.TypeAXFR, question.Qtype == dns.TypeIXFR:
		reply.Rcode = dns.RcodeRefused
	case r.complete(reply, req):
	default:
		r.answerQuestion(reply, req, question)
		if r.autopath && reply.Rcode == dns.RcodeNameError && len(reply.Answer) == 0 {
			r.searchOn(reply, req, from)
		}
	}
	return reply
}

// answerQuestion fills reply with the answer to question, which is that of req
// or one that takes its place.
func (r *responder) answerQuestion(reply, req *dns.Msg, question dns.Question) {
	synced := r.isSynced() // asked before the Snapshot is taken
	a, ours := r.zone.resolve(r.store.Snapshot(), r.view, question)
	switch {
	case !ours && question.Qtype == dns.TypeANY:
		// It is asked for to get much out of a resolver, and for nothing else.
		reply.Answer = []dns.RR{minimal(question.Name)}
	case !ours:
		r.forwardTo(reply, req, question)
	case !synced:
		reply.Rcode = dns.RcodeServerFailure
	default:
		reply.Authoritative = true
		reply.Rcode, reply.Answer, reply.Ns, reply.Extra = a.Rcode, a.Answer, a.Ns, a.Extra
		if a.Next != "" {
			question.Name = a.Next
			r.follow(reply, req, question)
		}
		shuffleAddresses(reply.Answer)
	}
}

func (r *responder) isSynced() bool {
	select {
	case <-r.store.Synced():
		return true
	default:
		return false
	}
}

// forwardTo fills reply with what an upstream says. Without an upstream the
// name does not exist.
func (r *responder) forwardTo(reply, req *dns.Msg, question dns.Question) {
	theirs, err := r.ask(req, question)
	switch {
	case err == errNoUpstream:
		reply.Rcode = dns.RcodeNameError
	case err != nil:
		reply.Rcode = dns.RcodeServerFailure
	default:
		if addr := r.rebind.clean(question.Name, theirs); addr.IsValid() && r.rebind.loud() {
			r.log.Warn("took the address of a Service out of a DNS answer: it looks like DNS rebinding; dns.rebindDomains permits it",
				"view", r.view.Name, "name", question.Name, "address", addr)
		}
		copyAnswer(reply, theirs)
		reply.Authoritative = theirs.Authoritative
		reply.AuthenticatedData = theirs.AuthenticatedData
		reply.Truncated = theirs.Truncated
	}
}

// follow adds what an upstream says about the name to which a CNAME of ours
// points. When it says nothing, the CNAME alone is the answer: it is true, and
// a name of ours is never SERVFAIL.
func (r *responder) follow(reply, req *dns.Msg, question dns.Question) {
	theirs, err := r.ask(req, question)
	if err != nil {
		return
	}
	switch theirs.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError: // of the last name (RFC 6604)
		copyAnswer(reply, theirs)
		reply.Truncated = theirs.Truncated
	}
}

// ask forwards question, with the flags and the EDNS of req, and counts.
func (r *responder) ask(req *dns.Msg, question dns.Question) (*dns.Msg, error) {
	if r.forward == nil {
		return nil, errNoUpstream
	}
	if r.hurried {
		r.left = true
		return nil, errLeft
	}
	query := &dns.Msg{Question: []dns.Question{question}}
	query.RecursionDesired = req.RecursionDesired
	query.CheckingDisabled = req.CheckingDisabled
	query.AuthenticatedData = req.AuthenticatedData
	if opt := req.IsEdns0(); opt != nil {
		// Only when the client speaks EDNS: then one that meets a server
		// without it falls back as it would alone.
		query.SetEdns0(udpSize, opt.Do())
	}
	reply, err := r.forward.ask(r.ctx, query)
	r.stats.forwarded(err)
	if err != nil && err != errNoUpstream {
		r.log.Debug("forward DNS query", "view", r.view.Name, "name", question.Name, "type", dns.TypeToString[question.Qtype], "err", err)
	}
	return reply, err
}

// copyAnswer adds the records of an upstream's answer to reply, without the
// OPT, which is between it and us.
func copyAnswer(reply, theirs *dns.Msg) {
	reply.Rcode = theirs.Rcode
	reply.Answer = append(reply.Answer, theirs.Answer...)
	reply.Ns = append(reply.Ns, theirs.Ns...)
	for _, rr := range theirs.Extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			reply.Extra = append(reply.Extra, rr)
		}
	}
}

// fit makes reply fit the transport and the client that sent req (RFC 6891):
// what is left out sets TC.
func fit(reply, req *dns.Msg, udp bool) {
	opt := req.IsEdns0()
	size := dns.MaxMsgSize
	if udp {
		size = dns.MinMsgSize
		if opt != nil {
			size = max(size, min(int(opt.UDPSize()), udpSize))
		}
	}
	switch {
	case opt != nil:
		reply.SetEdns0(udpSize, opt.Do())
	case reply.Rcode > 0xF: // has no place without EDNS
		reply.Rcode = dns.RcodeServerFailure
	}
	reply.Truncate(size)
}

// shuffleAddresses puts the addresses in rrs in random order and leaves every
// other record, such as the CNAMEs before them, where it is.
func shuffleAddresses(rrs []dns.RR) {
	first := 0
	for first < len(rrs) && !isAddress(rrs[first]) {
		first++
	}
	last := first
	for last < len(rrs) && isAddress(rrs[last]) {
		last++
	}
	run := rrs[first:last]
	rand.Shuffle(len(run), func(i, j int) { run[i], run[j] = run[j], run[i] })
}

func isAddress(rr dns.RR) bool {
	t := rr.Header().Rrtype
	return t == dns.TypeA || t == dns.TypeAAAA
}
