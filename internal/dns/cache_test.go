package dns

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// reply is an answer with these records, and these in Authority.
func reply(t testing.TB, rcode int, answer, ns string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.Response, m.Rcode = true, rcode
	m.Answer, m.Ns = parseZone(t, answer), parseZone(t, ns)
	return m
}

var cacheUpstreams = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}

const exampleSOA = "example.com. 900 IN SOA ns.example.com. hostmaster.example.com. 1 2 3 4 600"

func TestCacheLifetimes(t *testing.T) {
	for _, test := range []struct {
		about string
		reply *dns.Msg
		lives time.Duration
	}{
		{"as its TTL says", reply(t, 0, "www.example.com. 7 IN A 192.0.2.80", ""), 7 * time.Second},
		{"the shortest TTL counts", reply(t, 0, "www.example.com. 9 IN CNAME a.example.com.\na.example.com. 3 IN A 192.0.2.80", ""), 3 * time.Second},
		{"not for long", reply(t, 0, "www.example.com. 86400 IN A 192.0.2.80", ""), maxPositive},
		{"a TTL of 0", reply(t, 0, "www.example.com. 0 IN A 192.0.2.80", ""), 0},
		{"no such name", reply(t, dns.RcodeNameError, "", exampleSOA), time.Second},
		{"no such type", reply(t, 0, "", exampleSOA), time.Second},
		{"an alias of no name", reply(t, dns.RcodeNameError, "www.example.com. 60 IN CNAME a.example.com.", exampleSOA), time.Second},
		{"a no that is not to be kept", reply(t, dns.RcodeNameError, "", strings.Replace(exampleSOA, " 600", " 0", 1)), 0},
		{"failure", reply(t, dns.RcodeServerFailure, "", ""), 0},
		{"refusal", reply(t, dns.RcodeRefused, "", ""), 0},
	} {
		t.Run(test.about, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c cache
				c.get("k", cacheUpstreams)
				c.put("k", cacheUpstreams, test.reply)
				if test.lives > 0 {
					time.Sleep(test.lives - time.Millisecond)
					if c.get("k", cacheUpstreams) == nil {
						t.Errorf("gone before %v", test.lives)
					}
					time.Sleep(time.Millisecond)
				}
				if c.get("k", cacheUpstreams) != nil {
					t.Errorf("there after %v", test.lives)
				}
				if len(c.entries) != 0 {
					t.Errorf("%d entries are left", len(c.entries))
				}
			})
		})
	}
}

// What is given out counts down, and is the caller's own.
func TestCacheCountsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c cache
		c.get("k", cacheUpstreams)
		said := reply(t, 0, "www.example.com. 20 IN A 192.0.2.80", "example.com. 40 IN NS ns.example.com.")
		said.SetEdns0(udpSize, true)
		flags := said.IsEdns0().Hdr.Ttl
		c.put("k", cacheUpstreams, said)
		said.Answer[0].Header().Ttl = 1
		for _, want := range []uint32{20, 15, 10} {
			got := c.get("k", cacheUpstreams)
			if got.Answer[0].Header().Ttl != want || got.Ns[0].Header().Ttl != want+20 || got.IsEdns0().Hdr.Ttl != flags {
				t.Errorf("want a TTL of %d, got:\n%v", want, got)
			}
			got.Answer[0].Header().Name = "somebody.else."
			time.Sleep(5 * time.Second)
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	var c cache
	c.get("", cacheUpstreams)
	for i := range 2 * cacheEntries {
		c.put(fmt.Sprint(i), cacheUpstreams, reply(t, 0, exampleA, ""))
	}
	if got := c.stats(); got.Answers != cacheEntries || got.Denials != 0 {
		t.Errorf("stats %+v, want %d answers", got, cacheEntries)
	}
	big := reply(t, 0, strings.Repeat(exampleA+"\n", cacheAnswer+1), "")
	c.put("big", cacheUpstreams, big)
	cut := reply(t, 0, exampleA, "")
	cut.Truncated = true
	c.put("cut", cacheUpstreams, cut)
	for _, key := range []string{"big", "cut"} {
		if c.get(key, cacheUpstreams) != nil {
			t.Errorf("an answer that is %s is kept", key)
		}
	}
}

// On another network the same names mean something else.
func TestCacheForgetsWithOtherUpstreams(t *testing.T) {
	var c cache
	others := []netip.AddrPort{netip.MustParseAddrPort("198.51.100.53:53")}
	c.get("k", cacheUpstreams)
	c.put("k", cacheUpstreams, reply(t, 0, exampleA, ""))
	if c.get("k", others) != nil {
		t.Error("what one upstream said is said for another")
	}
	c.put("k", cacheUpstreams, reply(t, 0, exampleA, "")) // was under way
	if c.get("k", others) != nil {
		t.Error("an answer that comes late is kept for another upstream")
	}
}

// A client that differs in what it asks for gets no other's answer.
func TestForwardUsesAnswersAgain(t *testing.T) {
	var asked atomic.Int32
	answer := says(t, exampleA)
	s, server := forwarding(t, upstream(t, func(w dns.ResponseWriter, req *dns.Msg) {
		asked.Add(1)
		answer(w, req)
	}))
	again := newQuery(t, "WWW.example.com. A")
	secure := newQuery(t, "www.example.com. A")
	secure.SetEdns0(udpSize, true)
	checked := newQuery(t, "www.example.com. A")
	checked.CheckingDisabled = true
	for i, query := range []*dns.Msg{newQuery(t, "www.example.com. A"), again, secure, checked, newQuery(t, "www.example.com. A")} {
		reply := exchangeWith(t, "udp", server, query)
		wantAnswer(t, reply, exampleA)
		if got, want := reply.Question[0].Name, query.Question[0].Name; got != want {
			t.Errorf("query %d: the question is %s, want %s", i, got, want)
		}
	}
	if got := asked.Load(); got != 3 {
		t.Errorf("the upstream was asked %d times, want 3", got)
	}
	want := CacheStats{Answers: 3, Hits: 2, Misses: 3}
	if diff := cmp.Diff(want, s.Stats().Cache); diff != "" {
		t.Errorf("cache (-want +got):\n%s", diff)
	}
}
