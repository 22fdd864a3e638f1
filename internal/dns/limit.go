package dns

import (
	"net/netip"
	"sync"
	"time"
)

// The address of a datagram is easily forged: who asks in the name of another
// has the answer sent there, and gains what it is larger than the question. So
// that is what is bounded, for each client, in bytes a second. Whoever is over
// it gets an answer that says TC and is no larger than the question, and asks
// again over TCP, where no address is forged: nothing is lost.
const (
	// clientGain is for the datagrams of one address: some 200 of the largest
	// answers, many thousands of those with one address.
	clientGain = 256 << 10

	// localGain is for this machine's loopback, whose addresses nobody else
	// can use. It ends what has run wild.
	localGain = 32 << 20

	// limitedClients bounds how many clients are told apart. The others share
	// one budget.
	limitedClients = 4096
)

// A limiter bounds what each client is sent over UDP beyond what it sent. A
// budget fills up within a second.
type limiter struct {
	mu      sync.Mutex // guards the following
	clients map[netip.Addr]*budget
	others  budget
	swept   time.Time
}

// A budget is what a client may still be sent.
type budget struct {
	left float64 // bytes
	at   time.Time
}

// allow reports whether client may have gain more bytes than it sent, and
// takes them from its budget.
func (l *limiter) allow(client netip.Addr, gain int) bool {
	if gain <= 0 {
		return true
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.budget(limitedAs(client), now).take(float64(gain), gainOf(client), now)
}

// limitedAs returns what stands for all addresses that a client may have: of
// IPv6 a host has a whole network.
func limitedAs(client netip.Addr) netip.Addr {
	if client = client.Unmap(); client.Is4() {
		return client
	}
	network, _ := client.WithZone("").Prefix(64)
	return network.Addr()
}

func gainOf(client netip.Addr) float64 {
	if client.Unmap().IsLoopback() {
		return localGain
	}
	return clientGain
}

// budget returns the budget of a client. The caller must hold mu.
func (l *limiter) budget(client netip.Addr, now time.Time) *budget {
	if b := l.clients[client]; b != nil {
		return b
	}
	if len(l.clients) >= limitedClients && now.Sub(l.swept) >= time.Second {
		l.swept = now
		for c, b := range l.clients { // a full budget is that of a new client
			if now.Sub(b.at) >= time.Second {
				delete(l.clients, c)
			}
		}
	}
	if len(l.clients) >= limitedClients {
		return &l.others
	}
	if l.clients == nil {
		l.clients = make(map[netip.Addr]*budget)
	}
	b := new(budget)
	l.clients[client] = b
	return b
}

// take takes n bytes from a budget that gets perSecond, or nothing when it has
// less.
func (b *budget) take(n, perSecond float64, now time.Time) bool {
	b.left = min(perSecond, b.left+perSecond*now.Sub(b.at).Seconds())
	b.at = now
	if b.left < n {
		return false
	}
	b.left -= n
	return true
}
