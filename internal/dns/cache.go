package dns

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxPositive and maxNegative bound how long an upstream's answer is used
	// again. A name that is not there yet is asked for until it is: whoever
	// waits for it must not wait for us.
	maxPositive = 30 * time.Second
	maxNegative = time.Second

	// cacheEntries and cacheAnswer, the records of one entry, bound its size.
	cacheEntries = 2048
	cacheAnswer  = 32
)

// A cache remembers what upstreams said. It never has a name of ours.
type cache struct {
	hits, denials, misses atomic.Uint64

	mu        sync.Mutex // guards the following
	upstreams []netip.AddrPort
	entries   map[string]cached
}

// A cached answer is shared: it is copied before anything is written to it.
type cached struct {
	reply      *dns.Msg
	from, till time.Time
}

// get returns a copy of the answer to the query with this key, its TTLs as
// they are by now, or nil. Other upstreams than before know other things, so
// that with them it starts anew.
func (c *cache) get(key string, upstreams []netip.AddrPort) *dns.Msg {
	now := time.Now()
	e, ok := c.lookUp(key, upstreams, now)
	if !ok {
		c.misses.Add(1)
		return nil
	}
	if isDenial(e.reply) {
		c.denials.Add(1)
	} else {
		c.hits.Add(1)
	}
	reply := e.reply.Copy()
	age := uint32(now.Sub(e.from) / time.Second)
	eachTTL(reply, func(ttl *uint32) { *ttl -= min(*ttl, age) })
	return reply
}

func (c *cache) lookUp(key string, upstreams []netip.AddrPort, now time.Time) (cached, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.upstreams, upstreams) {
		c.upstreams, c.entries = slices.Clone(upstreams), nil
	}
	e, ok := c.entries[key]
	if ok && !now.Before(e.till) {
		delete(c.entries, key)
		return cached{}, false
	}
	return e, ok
}

// put keeps a copy of the answer of these upstreams if it may be used again.
func (c *cache) put(key string, upstreams []netip.AddrPort, reply *dns.Msg) {
	life := lifetime(reply)
	if life <= 0 || len(reply.Answer)+len(reply.Ns)+len(reply.Extra) > cacheAnswer {
		return
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.upstreams, upstreams) {
		return // they changed meanwhile
	}
	if c.entries == nil {
		c.entries = make(map[string]cached)
	}
	if _, ok := c.entries[key]; !ok && len(c.entries) >= cacheEntries {
		for victim := range c.entries { // any: a map begins anywhere
			delete(c.entries, victim)
			break
		}
	}
	c.entries[key] = cached{reply.Copy(), now, now.Add(life)}
}

// stats returns the counters.
func (c *cache) stats() CacheStats {
	s := CacheStats{Hits: c.hits.Load(), Denied: c.denials.Load(), Misses: c.misses.Load()}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.entries {
		if isDenial(e.reply) {
			s.Denials++
		} else {
			s.Answers++
		}
	}
	return s
}

// lifetime returns how long reply may be used again: as long as the shortest
// of its TTLs says, within our bounds, and not at all when it is cut or says
// nothing about the name.
func lifetime(reply *dns.Msg) time.Duration {
	if reply.Truncated || !settles(reply) {
		return 0
	}
	life := maxPositive
	if isDenial(reply) {
		life = maxNegative
	}
	eachTTL(reply, func(ttl *uint32) { life = min(life, time.Duration(*ttl)*time.Second) })
	for _, rr := range reply.Ns {
		if soa, ok := rr.(*dns.SOA); ok && isDenial(reply) { // RFC 2308 5
			life = min(life, time.Duration(soa.Minttl)*time.Second)
		}
	}
	return life
}

// isDenial reports whether reply says that there is no such name or type.
func isDenial(reply *dns.Msg) bool {
	return reply.Rcode != dns.RcodeSuccess || len(reply.Answer) == 0
}

// eachTTL calls f with the TTL of each record. The OPT has none: its field is
// for flags.
func eachTTL(reply *dns.Msg, f func(ttl *uint32)) {
	for _, rrs := range [][]dns.RR{reply.Answer, reply.Ns, reply.Extra} {
		for _, rr := range rrs {
			if h := rr.Header(); h.Rrtype != dns.TypeOPT {
				f(&h.Ttl)
			}
		}
	}
}
