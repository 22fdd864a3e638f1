package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

const (
	// maxReaders bounds the goroutines that read one socket.
	maxReaders = 4

	// maxQuery is what is read of a query. Larger ones than any resolver's are
	// cut, and then refused.
	maxQuery = dns.DefaultMsgSize

	// headerSize is that of the header of a message (RFC 1035, 4.1.1).
	headerSize = 12
)

// A udpServer answers the queries that come to a UDP socket. What the registry
// knows is answered by who has read the query: that takes microseconds, and to
// start a goroutine for it would take more. What upstreams know has a goroutine
// of its own.
type udpServer struct {
	*responder // which may wait for upstreams
	conn       *net.UDPConn
	waiting    sync.WaitGroup // for upstreams
}

// serve answers until ctx is done, and waits for the queries under way.
func (s *udpServer) serve(ctx context.Context) error {
	defer s.waiting.Wait()
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { s.conn.SetReadDeadline(time.Unix(1, 0)) }) // ends the reads
	defer stop()
	for range min(runtime.GOMAXPROCS(0), maxReaders) {
		group.Go(func() error { return s.read(ctx) })
	}
	return group.Wait()
}

// read reads queries and answers those that need not wait.
func (s *udpServer) read(ctx context.Context) error {
	quick := &responder{Server: s.Server, ctx: s.ctx, view: s.view, hurried: true}
	query, reply := make([]byte, maxQuery), make([]byte, 2*udpSize)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(query)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // such as too little memory
			s.log.Debug("read DNS query", "view", s.view.Name, "err", err)
			time.Sleep(time.Millisecond)
			continue
		}
		wire := quick.answerWire(reply, query[:n], from.Addr())
		if !quick.left {
			s.write(wire, from)
			continue
		}
		quick.left = false
		later := slices.Clone(query[:n])
		s.waiting.Go(func() {
			buf := packBuffers.Get().(*[2 * udpSize]byte)
			defer packBuffers.Put(buf)
			s.write(s.answerWire(buf[:], later, from.Addr()), from)
		})
	}
}

// write sends an answer, if there is one.
func (s *udpServer) write(wire []byte, to netip.AddrPort) {
	if wire == nil {
		return
	}
	if _, err := s.conn.WriteToUDPAddrPort(wire, to); err != nil {
		s.log.Debug("write DNS answer", "client", to, "err", err)
	}
}

// answerWire answers a query, into buf if it has room. It returns nil for what
// gets no answer.
func (r *responder) answerWire(buf, query []byte, from netip.Addr) []byte {
	began := time.Now()
	if len(query) < headerSize {
		return nil // an answer could only be used to amplify
	}
	header := headerOf(query)
	req := new(dns.Msg)
	action := dns.DefaultMsgAcceptFunc(header)
	if action == dns.MsgIgnore {
		return nil
	}
	if action == dns.MsgAccept && req.Unpack(query) == nil {
		return r.reply(buf, req, from, true, began)
	}
	refusal := &dns.Msg{MsgHdr: dns.MsgHdr{Id: header.Id, Response: true, Rcode: dns.RcodeFormatError}}
	if action == dns.MsgRejectNotImplemented {
		refusal.Opcode, refusal.Rcode = int(header.Bits>>11)&0xf, dns.RcodeNotImplemented
	}
	wire, err := refusal.PackBuffer(buf)
	if err != nil {
		panic(fmt.Sprintf("dns: a header cannot be packed: %v", err)) // no name is in it
	}
	return wire
}

// headerOf reads the header of a message.
func headerOf(m []byte) dns.Header {
	word := func(i int) uint16 { return binary.BigEndian.Uint16(m[2*i:]) }
	return dns.Header{Id: word(0), Bits: word(1), Qdcount: word(2), Ancount: word(3), Nscount: word(4), Arcount: word(5)}
}
