package daemon

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/internal/api"
	"usher/registry"
)

// loadsOf returns loads by Backend, and nil for none.
func loadsOf(list []api.ReportedLoad) map[string]int64 {
	var loads map[string]int64
	for _, l := range list {
		if loads == nil {
			loads = make(map[string]int64)
		}
		loads[l.Backend] += l.Open
	}
	return loads
}

// TestShareLoads checks that a reporter which chooses by load is told what others
// and the proxy have open, and not what it has itself: at once and then when that
// changes, with what has gone gone.
func TestShareLoads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const one, two = "10.1.0.1:8080", "10.1.0.2:8080"
		r := newDirectReports(storeOf(t, "10.1.0.1", "10.1.0.2"))
		at := netip.MustParseAddrPort
		var proxied, direct map[netip.AddrPort]int64
		r.proxy = balances{
			func(registry.FrontendKey) map[netip.AddrPort]int64 { return proxied },
			func(_ registry.FrontendKey, open map[netip.AddrPort]int64) { direct = open },
		}
		setProxied := func(open map[netip.AddrPort]int64) {
			r.mu.Lock()
			defer r.mu.Unlock()
			proxied = open
		}
		toProxy := func() map[netip.AddrPort]int64 {
			r.mu.Lock()
			defer r.mu.Unlock()
			return direct
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = r.share(ctx) }()
		var heard []map[string]int64
		a := begin(t, r, "a", told{tell: func(l []api.ReportedLoad) { heard = append(heard, loadsOf(l)) }})
		check := func(when string, want ...map[string]int64) {
			t.Helper()
			time.Sleep(2 * shareEvery)
			r.mu.Lock()
			defer r.mu.Unlock()
			if diff := cmp.Diff(want, heard); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
			heard = nil
		}
		b := begin(t, r, "b", told{tell: func([]api.ReportedLoad) { t.Error("told without having asked") }})
		b.say(api.ConnectionReport{Open: []api.ReportedConnection{openTo(1, one), openTo(2, one), openTo(3, two)}})
		check("not asked for")
		web := []api.ReportedFrontend{{Address: "10.96.0.7:80", Protocol: "TCP"}}
		a.say(api.ConnectionReport{ByLoad: web, Open: []api.ReportedConnection{openTo(1, one)}})
		check("asked for", map[string]int64{one: 2, two: 1})
		a.say(api.ConnectionReport{Open: []api.ReportedConnection{openTo(2, two)}})
		check("its own")
		b.say(api.ConnectionReport{Open: []api.ReportedConnection{openTo(1, two)}, Closed: []uint64{3}}) // 1 was elsewhere before
		check("others change", map[string]int64{one: 1, two: 1})
		setProxied(map[netip.AddrPort]int64{at(two): 5})
		check("the proxy", map[string]int64{one: 1, two: 6})
		if diff := cmp.Diff(map[netip.AddrPort]int64{at(one): 2, at(two): 2}, toProxy(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("the proxy (-want +got):\n%s", diff)
		}
		again := begin(t, r, "b", told{})
		again.say(api.ConnectionReport{Open: []api.ReportedConnection{openTo(1, one)}})
		check("a session with a new stream", map[string]int64{one: 1, two: 5})
		again.stream.Close()
		setProxied(nil)
		check("nobody else", nil)
		a.say(api.ConnectionReport{ByLoad: []api.ReportedFrontend{}})
		setProxied(map[netip.AddrPort]int64{at(two): 5})
		check("no longer asked for", nil)
		if open := toProxy(); open != nil {
			t.Errorf("the proxy still hears of %v", open)
		}
		a.stream.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.loads) != 0 || len(r.sharers) != 0 {
			t.Errorf("%v, %d sharers", r.loads, len(r.sharers))
		}
	})
}
