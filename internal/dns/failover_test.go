package dns

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// One query finds out that the first upstream is silent; those after it do not
// wait for it, and find it again once it rested.
func TestSilentUpstreamRests(t *testing.T) {
	var asked atomic.Int32
	quiet := upstream(t, func(dns.ResponseWriter, *dns.Msg) { asked.Add(1) })
	s, server := forwarding(t, quiet, upstream(t, says(t, exampleA)))
	wantAnswer(t, ask(t, server, "www.example.com. A"), exampleA)
	began := time.Now()
	for i := range 5 {
		wantAnswer(t, ask(t, server, fmt.Sprintf("www%d.example.com. A", i)), exampleA)
	}
	if took := time.Since(began); took > hedgeAfter {
		t.Errorf("5 queries took %v after the first", took)
	}
	if got := asked.Load(); got != 1 {
		t.Errorf("the silent upstream was asked %d times, want once", got)
	}
	if got := s.Stats().Forwarded; got != 6 {
		t.Errorf("%d queries counted as forwarded, want 6", got)
	}
}

func TestUpstreamsInOrder(t *testing.T) {
	a, b, c := netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("192.0.2.2:53"), netip.MustParseAddrPort("192.0.2.3:53")
	synctest.Test(t, func(t *testing.T) {
		f := newForwarder(nil)
		check := func(about string, want ...netip.AddrPort) {
			t.Helper()
			got := f.inOrder([]netip.AddrPort{a, b, c, netip.MustParseAddrPort("192.0.2.4:53")})
			if diff := cmp.Diff(want, got, sameAddrPort); diff != "" {
				t.Errorf("%s (-want +got):\n%s", about, diff)
			}
		}
		check("at first", a, b, c)
		f.heard(a, false)
		check("the first is silent", b, c, a)
		f.heard(b, false)
		check("two are", c, a, b)
		f.heard(c, false)
		check("all are", a, b, c)
		f.heard(b, true)
		check("one answers", b, a, c)
		time.Sleep(restFor)
		check("later", a, b, c)
		f.heard(c, false)
		if len(f.resting) != 1 {
			t.Errorf("%d upstreams are remembered, want the one that rests", len(f.resting))
		}
	})
}
