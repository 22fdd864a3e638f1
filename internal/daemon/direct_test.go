package daemon

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/internal/api"
	"usher/proxy"
	"usher/registry"
)

// storeOf returns a Store with a Service finance/web at 10.96.0.7:80, whose
// endpoints are at port 8080.
func storeOf(t *testing.T, endpoints ...string) *registry.Store {
	t.Helper()
	store := registry.NewStore()
	replace(t, store, 1, endpoints...)
	return store
}

func replace(t *testing.T, store *registry.Store, revision int64, endpoints ...string) {
	t.Helper()
	var objects []registry.Object
	for i, text := range []string{
		`{"metadata":{"name":"web","namespace":"finance"},"spec":{"clusterIP":"10.96.0.7","clusterIPs":["10.96.0.7"],"ports":[{"port":80}]}}`,
		`{"metadata":{"name":"web","namespace":"finance","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4",` +
			`"endpoints":[{"addresses":["` + strings.Join(endpoints, `"]},{"addresses":["`) + `"]}],"ports":[{"port":8080}]}`,
	} {
		obj, err := registry.DecodeStrict([]*registry.Kind{registry.Services, registry.EndpointSlices}[i], []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		registry.SetDefaults(obj)
		obj.SetResourceVersion(fmt.Sprint(revision))
		objects = append(objects, obj)
	}
	store.Replace(revision, objects)
}

// A teller is the reporter of a test.
type teller struct {
	*testing.T
	stream api.ReportStream
	last   int64
}

// A told is what the reporter of a test does when it is asked, and with what it
// is told.
type told struct {
	ask  func(int64)
	tell func([]api.ReportedLoad)
}

func (t told) Ask(number int64)              { t.ask(number) }
func (t told) Tell(loads []api.ReportedLoad) { t.tell(loads) }

func begin(t *testing.T, r *directReports, name string, to api.Reporter) *teller {
	t.Helper()
	stream, last, err := r.Begin(name, to)
	if err != nil {
		t.Fatal(err)
	}
	return &teller{t, stream, last}
}

func (s *teller) say(report api.ConnectionReport) {
	s.Helper()
	s.last++
	report.Sequence = s.last
	if err := s.stream.Apply(report); err != nil {
		s.Error(err)
	}
}

func openTo(id uint64, backend string) api.ReportedConnection {
	return api.ReportedConnection{ID: id, Connection: api.Connection{
		Namespace: "finance", Service: "web", Protocol: "TCP", VIP: "10.96.0.7:80", Backend: backend, State: "Established",
	}}
}

func countsAt(backend string, connections, up uint64) api.ReportedCounts {
	return api.ReportedCounts{
		Namespace: "finance", Service: "web", Address: "10.96.0.7:80", Protocol: "TCP", Backend: backend, Connections: connections, BytesUp: up,
	}
}

// statsOf returns what is exported of the Service, of whose proxy nobody has
// asked anything.
func statsOf(r *directReports) map[string]proxy.Counts {
	f := r.store.Snapshot().Frontend(webKey)
	stats := []proxy.Stats{{Frontend: f}}
	for _, b := range f.Backends {
		stats[0].Backends = append(stats[0].Backends, proxy.BackendStats{Address: b.Address})
	}
	r.addTo(stats)
	found := map[string]proxy.Counts{"": stats[0].Counts}
	for _, b := range stats[0].Backends {
		found[b.Address.String()] = b.Counts
	}
	return found
}

var webKey = registry.FrontendKey{Address: netip.MustParseAddr("10.96.0.7"), Port: 80, Protocol: "TCP"}

// TestDirectCounts checks that what goes straight to Backends is counted: what is
// open goes with its reporter, and what a Backend had, that has left, stays in
// the Service's.
func TestDirectCounts(t *testing.T) {
	r := newDirectReports(storeOf(t, "10.1.0.1", "10.1.0.2"))
	s := begin(t, r, "a", nil)
	s.say(api.ConnectionReport{
		Open: []api.ReportedConnection{openTo(1, "10.1.0.1:8080"), openTo(2, "10.1.0.2:8080"), openTo(3, "10.1.0.2:8080")},
		Counts: []api.ReportedCounts{
			countsAt("", 5, 100), countsAt("10.1.0.1:8080", 2, 30), countsAt("10.1.0.2:8080", 3, 70), countsAt("10.9.9.9:1", 1, 1),
			{Namespace: "finance", Service: "other", Address: "10.96.0.7:80", Protocol: "TCP", Connections: 1},
			{Namespace: "finance", Service: "web", Address: "10.96.0.8:80", Protocol: "TCP", Connections: 1},
			{Namespace: "finance", Service: "web", Address: "nowhere", Protocol: "TCP", Connections: 1},
		},
	})
	s.say(api.ConnectionReport{Closed: []uint64{3}, Counts: []api.ReportedCounts{countsAt("", 1, 1), countsAt("10.1.0.1:8080", 1, 1)}})
	check := func(when string, want map[string]proxy.Counts) {
		t.Helper()
		if diff := cmp.Diff(want, statsOf(r)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	check("open", map[string]proxy.Counts{
		"":              {Connections: 6, Active: 2, BytesUp: 101},
		"10.1.0.1:8080": {Connections: 3, Active: 1, BytesUp: 31},
		"10.1.0.2:8080": {Connections: 3, Active: 1, BytesUp: 70},
	})
	replace(t, r.store, 2, "10.1.0.2")
	check("without a Backend that has a connection", map[string]proxy.Counts{
		"":              {Connections: 6, Active: 2, BytesUp: 101},
		"10.1.0.1:8080": {Connections: 3, Active: 1, BytesUp: 31},
		"10.1.0.2:8080": {Connections: 3, Active: 1, BytesUp: 70},
	})
	s.stream.Close()
	check("after the reporter", map[string]proxy.Counts{
		"":              {Connections: 6, BytesUp: 101},
		"10.1.0.2:8080": {Connections: 3, BytesUp: 70},
	})
	replace(t, r.store, 3, "10.1.0.1", "10.1.0.2")
	check("the Backend is back", map[string]proxy.Counts{
		"": {Connections: 6, BytesUp: 101}, "10.1.0.1:8080": {}, "10.1.0.2:8080": {Connections: 3, BytesUp: 70},
	})
	r.store.Replace(4, nil)
	begin(t, r, "b", nil).stream.Close()
	if len(r.frontends) != 0 {
		t.Errorf("%d Frontends are remembered of none", len(r.frontends))
	}
}

// TestDirectSessions checks that a session goes on where it was, that one which
// has a new stream has no other, and that what makes no sense is refused.
func TestDirectSessions(t *testing.T) {
	r := newDirectReports(storeOf(t, "10.1.0.1"))
	s := begin(t, r, "a", nil)
	s.say(api.ConnectionReport{Open: []api.ReportedConnection{openTo(1, "10.1.0.1:8080")}})
	again := begin(t, r, "a", nil)
	if again.last != 1 {
		t.Errorf("report %d was the last", again.last)
	}
	if err := s.stream.Apply(api.ConnectionReport{Sequence: 2}); err == nil {
		t.Error("the old stream is heard")
	}
	s.stream.Close()
	again.say(api.ConnectionReport{Open: []api.ReportedConnection{openTo(2, "10.1.0.1:8080")}})
	everybody := func(string, string) bool { return true }
	if got := r.connections(everybody); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	if got := r.connections(func(ns, service string) bool { return ns != "finance" || service != "web" }); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	for what, report := range map[string]api.ConnectionReport{
		"once more":     {Sequence: 2},
		"one is absent": {Sequence: 4},
		"too many":      {Sequence: 3, Closed: make([]uint64, api.MaxReported+1)},
	} {
		if err := again.stream.Apply(report); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	for i := range maxEnded + 1 {
		begin(t, r, fmt.Sprint(i), nil).stream.Close()
	}
	if len(r.sessions) != maxEnded+1 { // and the one that has a stream
		t.Errorf("%d sessions are remembered", len(r.sessions))
	}
	if _, _, err := newDirectReports(registry.NewStore()).Begin("a", nil); err == nil {
		t.Error("a stream before the registry is read")
	}
}

// TestDirectBound checks that a reporter has only so many connections open here,
// whatever it says has been closed, and may say how those are that it has.
func TestDirectBound(t *testing.T) {
	r := newDirectReports(storeOf(t, "10.1.0.1"))
	s := begin(t, r, "a", nil)
	full := func(first uint64) (report api.ConnectionReport) {
		for i := range uint64(api.MaxReported) {
			report.Open = append(report.Open, openTo(first+i, "10.1.0.1:8080"))
			report.Closed = append(report.Closed, 1<<40+i) // of which nobody knows
		}
		return report
	}
	for first := uint64(0); first+api.MaxReported <= maxOpen; first += api.MaxReported {
		s.say(full(first))
	}
	s.say(full(0)) // as they are now
	report := full(maxOpen)
	report.Sequence = s.last + 1
	if err := s.stream.Apply(report); err == nil {
		t.Errorf("more than %d connections are open", maxOpen)
	}
}

// TestDirectForgets checks that a Backend which has left is not remembered for
// ever where nobody asks for counters.
func TestDirectForgets(t *testing.T) {
	r := newDirectReports(storeOf(t, "10.1.0.1"))
	s := begin(t, r, "a", nil)
	s.say(api.ConnectionReport{Counts: []api.ReportedCounts{countsAt("", 1, 1), countsAt("10.1.0.1:8080", 1, 1)}})
	replace(t, r.store, 2, "10.1.0.2")
	s.stream.Close()
	for key, f := range r.frontends {
		if len(f.backends) > 0 {
			t.Errorf("%s remembers %d Backends", key, len(f.backends))
		}
	}
}

// TestDirectRefresh checks that who asks waits for those who report, and for one
// that does not answer only so long.
func TestDirectRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newDirectReports(storeOf(t, "10.1.0.1"))
		var s *teller
		answers := true
		s = begin(t, r, "a", told{ask: func(question int64) {
			if answers {
				go func() {
					time.Sleep(10 * time.Millisecond)
					s.say(api.ConnectionReport{Asked: question})
				}()
			}
		}})
		for _, want := range []time.Duration{10 * time.Millisecond, freshWait} {
			start := time.Now()
			r.refresh(t.Context())
			if took := time.Since(start); took != want {
				t.Errorf("it took %v, want %v", took, want)
			}
			answers = false
		}
	})
}
