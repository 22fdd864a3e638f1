package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
)

// An event is one line of a watch, as far as tests look at it.
type event struct {
	Type   string
	Object struct {
		metav1.TypeMeta
		metav1.ObjectMeta `json:"metadata"`

		Code              int32
		Reason            metav1.StatusReason
		Message           string
		ColumnDefinitions []metav1.TableColumnDefinition
		Rows              []metav1.TableRow
	}
}

func (e event) String() string {
	if e.Type == "ERROR" {
		return fmt.Sprintf("ERROR %d %s %s", e.Object.Code, e.Object.Reason, e.Object.Message)
	}
	return fmt.Sprintf("%s %s@%s", e.Type, e.Object.Name, e.Object.ResourceVersion)
}

// A stream reads a watch.
type stream struct {
	t    *testing.T
	resp *http.Response
	dec  *json.Decoder
}

// openWatch starts a watch at a server of h. It ends with the test.
func openWatch(t *testing.T, h http.Handler, url string, headers ...string) *stream {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel) // before srv.Close, which waits for the watch
	r, err := http.NewRequestWithContext(ctx, "GET", srv.URL+url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	return &stream{t, resp, json.NewDecoder(resp.Body)}
}

func (s *stream) next() event {
	s.t.Helper()
	var e event
	if err := s.dec.Decode(&e); err != nil {
		s.t.Fatalf("read an event: %v", err)
	}
	return e
}

// expect reads as many events as are wanted and compares them.
func (s *stream) expect(want ...string) {
	s.t.Helper()
	var got []string
	for range want {
		got = append(got, s.next().String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("events (-want +got):\n%s", diff)
	}
}

// end expects that there are no more events.
func (s *stream) end() {
	s.t.Helper()
	var e event
	if err := s.dec.Decode(&e); err != io.EOF {
		s.t.Errorf("got %v, %v at the end, want EOF", e, err)
	}
}

func serviceKey(namespace, name string) registry.Key {
	return registry.Key{Kind: registry.Services, Namespace: namespace, Name: name}
}

func TestWatch(t *testing.T) {
	s, store := newTestServer(t, 9, at(5, service("finance", "pay", "10.96.1.1")))
	w := openWatch(t, s.Handler(), "/api/v1/services?watch=true&resourceVersion=9")
	put(store, 10, service("finance", "shop", "10.96.1.2"))
	put(store, 11, namespace("finance")) // of another Kind
	put(store, 12, service("finance", "pay", "10.96.1.1"))
	remove(store, 13, serviceKey("finance", "pay"))
	w.expect("ADDED shop@10", "MODIFIED pay@12", "DELETED pay@13")

	again := openWatch(t, s.Handler(), "/api/v1/services?watch=true&resourceVersion=11")
	again.expect("MODIFIED pay@12", "DELETED pay@13")
	put(store, 14, service("finance", "pay", "10.96.1.3"))
	again.expect("ADDED pay@14")
	w.expect("ADDED pay@14")
}

// A client may have seen more than this node has: what it knows is not
// repeated.
func TestWatchFromTheFuture(t *testing.T) {
	s, store := newTestServer(t, 9)
	var writes sync.WaitGroup
	defer writes.Wait()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writes.Go(func() {
			for revision := int64(10); revision < 14; revision++ {
				put(store, revision, service("x", "a", "10.96.1.1"))
			}
		})
		s.Handler().ServeHTTP(w, r)
	})
	w := openWatch(t, h, "/api/v1/services?watch=true&resourceVersion=11")
	w.expect("MODIFIED a@12", "MODIFIED a@13")
}

// What no node will ever see is not waited for: after etcd was begun anew the
// watch would be silent until its revisions got there.
func TestWatchFromNowhere(t *testing.T) {
	s, _ := newTestServer(t, 9)
	s.limits.fresh = 50 * time.Millisecond
	got := ask(t, s.Handler(), "GET", "/api/v1/services?watch=true&resourceVersion=100", "")
	if got.code != http.StatusGatewayTimeout || got.status.Message != "Timeout: Too large resource version: 100, current: 9" {
		t.Errorf("%d %s", got.code, got.body)
	}
}

// A full list puts right what the registry's own watch has missed. It does so
// at a revision at which there may have been a Commit already.
func TestWatchResync(t *testing.T) {
	s, store := newTestServer(t, 9, at(5, service("x", "gone", "10.96.1.2")))
	put(store, 20, namespace("x"))
	before := openWatch(t, s.Handler(), "/api/v1/services?watch=1&resourceVersion=20")
	store.Replace(20, []registry.Object{at(20, namespace("x")), at(15, service("x", "lost", "10.96.1.1"))})
	// Who read revision 20 before cannot know, and misses nothing either.
	after := openWatch(t, s.Handler(), "/api/v1/services?watch=1&resourceVersion=20")
	initial := openWatch(t, s.Handler(), "/api/v1/services?watch=1")
	put(store, 21, service("x", "last", "10.96.1.3"))
	for name, w := range map[string]*stream{"before": before, "after": after} {
		got := []string{w.next().String(), w.next().String()}
		slices.Sort(got) // the objects of one Commit have no order
		if diff := cmp.Diff([]string{"ADDED lost@15", "DELETED gone@20"}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		w.expect("ADDED last@21")
	}
	initial.expect("ADDED lost@15", "ADDED last@21")
}

func TestWatchInitial(t *testing.T) {
	const initial = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
	tests := []struct {
		query string
		want  []string
	}{
		{"", []string{"ADDED a@5", "ADDED b@6", "ADDED c@10"}},
		{"&resourceVersion=0", []string{"ADDED a@5", "ADDED b@6", "ADDED c@10"}},
		{"&resourceVersion=0&fieldSelector=metadata.name!%3Da", []string{"ADDED b@6", "ADDED c@10"}},
		{initial, []string{"ADDED a@5", "ADDED b@6", "ADDED c@10"}},
		{initial + "&allowWatchBookmarks=true", []string{"ADDED a@5", "ADDED b@6", "BOOKMARK @9", "ADDED c@10"}},
		{initial + "&allowWatchBookmarks=true&resourceVersion=7", []string{"ADDED a@5", "ADDED b@6", "BOOKMARK @9", "ADDED c@10"}},
		{"&sendInitialEvents=false&resourceVersionMatch=NotOlderThan", []string{"ADDED c@10"}},
		{"&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=9", []string{"ADDED c@10"}},
	}
	for _, tt := range tests {
		s, store := newTestServer(t, 9, at(5, service("x", "a", "10.96.1.1")), at(6, service("x", "b", "10.96.1.2")))
		w := openWatch(t, s.Handler(), "/api/v1/services?watch=true"+tt.query)
		put(store, 10, service("x", "c", "10.96.1.3"))
		var got []string
		for range tt.want {
			e := w.next()
			got = append(got, e.String())
			if mark := e.Object.Annotations[metav1.InitialEventsAnnotationKey]; (mark == "true") != (e.Type == "BOOKMARK") {
				t.Errorf("%s: %s has the annotation %q", tt.query, e, mark)
			}
			if e.Object.Kind != "Service" || e.Object.APIVersion != "v1" {
				t.Errorf("%s: %s is a %s in %s", tt.query, e, e.Object.Kind, e.Object.APIVersion)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.query, diff)
		}
	}
}

// An object that enters or leaves a selection is added to it or deleted from
// it, though it was modified.
func TestWatchSelection(t *testing.T) {
	tests := map[string][]string{
		"/api/v1/services?watch=1&labelSelector=tier%3Dgold":                 {"ADDED pay@11", "MODIFIED pay@12", "DELETED pay@13", "ADDED pay@14", "DELETED pay@15"},
		"/api/v1/services?watch=1&labelSelector=tier!%3Dgold":                {"ADDED pay@10", "DELETED pay@11", "ADDED pay@13", "DELETED pay@14"},
		"/api/v1/services?watch=1&fieldSelector=metadata.name%3Dpay":         {"ADDED pay@10", "MODIFIED pay@11", "MODIFIED pay@12", "MODIFIED pay@13", "MODIFIED pay@14", "DELETED pay@15"},
		"/api/v1/services?watch=1&fieldSelector=spec.clusterIP%3D10.96.1.12": {"ADDED pay@12", "DELETED pay@13"},
		"/api/v1/namespaces/other/services?watch=1":                          {"ADDED shop@16"},
	}
	for url, want := range tests {
		s, store := newTestServer(t, 9)
		w := openWatch(t, s.Handler(), url+"&resourceVersion=9")
		for i, tier := range []string{"", "gold", "gold", "", "gold"} {
			revision := int64(10 + i)
			svc := service("finance", "pay", fmt.Sprintf("10.96.1.%d", revision))
			svc.Labels["tier"] = tier
			put(store, revision, svc)
		}
		remove(store, 15, serviceKey("finance", "pay"))
		put(store, 16, service("other", "shop", "10.96.2.1"))
		w.expect(want...)
	}
}

// What is deleted from a watch is the last state that its client may have
// seen: that one matched the selector.
func TestWatchDeletedState(t *testing.T) {
	was, is := at(5, service("x", "a", "10.96.1.1")), at(7, service("x", "a", "10.96.1.1"))
	was.Labels["tier"], is.Labels["tier"] = "gold", "tin"
	s, store := newTestServer(t, 6, was)
	w := openWatch(t, s.Handler(), "/api/v1/services?watch=1&resourceVersion=6&labelSelector=tier%3Dgold")
	put(store, 7, is)
	if e := w.next(); e.String() != "DELETED a@7" || e.Object.Labels["tier"] != "gold" {
		t.Errorf("%s with labels %v", e, e.Object.Labels)
	}
	if was.ResourceVersion != "5" {
		t.Errorf("an object of the Store was changed: %s", was.ResourceVersion)
	}
}

// A Service's derived slices change in the same Commit as its Pods.
func TestWatchDerived(t *testing.T) {
	s, store := newTestServer(t, 9, at(5, service("finance", "pay", "10.96.1.1")))
	w := openWatch(t, s.Handler(), "/apis/discovery.k8s.io/v1/endpointslices?watch=1&resourceVersion=9")
	put(store, 10, pod("finance", "pay-1", "pay", "127.0.0.1", true))
	if e := w.next(); e.Type != "MODIFIED" || e.Object.ResourceVersion != "10" || e.Object.GenerateName != "pay-" {
		t.Errorf("%s", e)
	}
}

func TestWatchBookmarks(t *testing.T) {
	s, store := newTestServer(t, 9)
	s.limits.bookmark = 10 * time.Millisecond
	w := openWatch(t, s.Handler(), "/api/v1/services?watch=1&resourceVersion=9&allowWatchBookmarks=true")
	w.expect("BOOKMARK @9", "BOOKMARK @9")
	put(store, 12, namespace("finance")) // of another Kind: nothing to tell, but progress
	for e := w.next(); e.String() != "BOOKMARK @12"; e = w.next() {
		if e.String() != "BOOKMARK @9" {
			t.Fatalf("%s", e)
		}
	}

	plain := openWatch(t, s.Handler(), "/api/v1/services?watch=1&resourceVersion=9&timeoutSeconds=1")
	plain.end() // a hundred intervals later
}

func TestWatchTimeout(t *testing.T) {
	s, store := newTestServer(t, 9)
	w := openWatch(t, s.Handler(), "/api/v1/services?watch=1&timeoutSeconds=1")
	put(store, 10, service("x", "a", "10.96.1.1"))
	w.expect("ADDED a@10")
	w.end()
}

func TestWatchTable(t *testing.T) {
	s, store := newTestServer(t, 9, at(5, service("x", "a", "10.96.1.1")))
	s.limits.bookmark = 100 * time.Millisecond
	w := openWatch(t, s.Handler(), "/api/v1/services?watch=1&allowWatchBookmarks=1", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	put(store, 10, service("x", "b", "10.96.1.2"))
	for i, want := range []string{"a", "b", ""} {
		e := w.next()
		if e.Object.Kind != "Table" || (len(e.Object.ColumnDefinitions) > 0) != (i == 0) {
			t.Errorf("event %d: a %s with %d columns", i, e.Object.Kind, len(e.Object.ColumnDefinitions))
		}
		if len(e.Object.Rows) != 1 || e.Object.Rows[0].Cells[0] != want {
			t.Errorf("event %d: %+v, want the row of %q", i, e.Object.Rows, want)
		}
		if want == "" && (e.Type != "BOOKMARK" || e.Object.ResourceVersion != "10") {
			t.Errorf("event %d: %s, want a bookmark at 10", i, e)
		}
	}
}

// In Tables too a client finds the end of what there was at the beginning: the
// annotation is in the row of the bookmark. All Kinds have such a row.
func TestWatchTableEndMark(t *testing.T) {
	s, _ := newTestServer(t, 9)
	for _, k := range registry.Kinds {
		path := "/apis/" + k.Group + "/" + k.Version + "/" + k.Resource
		if k.Group == "" {
			path = "/api/" + k.Version + "/" + k.Resource
		}
		w := openWatch(t, s.Handler(), path+"?watch=1&timeoutSeconds=5&allowWatchBookmarks=1&sendInitialEvents=1&resourceVersionMatch=NotOlderThan",
			"Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
		for {
			e := w.next()
			if len(e.Object.Rows) != 1 {
				t.Fatalf("%s: %s with %d rows", k.Resource, e, len(e.Object.Rows))
			}
			if e.Type != "BOOKMARK" {
				continue // a Namespace, or what usher derives
			}
			var part metav1.PartialObjectMetadata
			if err := json.Unmarshal(e.Object.Rows[0].Object.Raw, &part); err != nil {
				t.Fatalf("%s: %v", k.Resource, err)
			}
			if part.Annotations[metav1.InitialEventsAnnotationKey] != "true" || part.ResourceVersion != "9" {
				t.Errorf("%s: the bookmark's row has %+v", k.Resource, part.ObjectMeta)
			}
			break
		}
	}
}

// A watch that the Store has left behind is told so: it has to list anew.
func TestWatchExpires(t *testing.T) {
	s, store := newTestServer(t, 9)
	pause := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Handler().ServeHTTP(&pausedWriter{w, pause}, r)
	})
	w := openWatch(t, h, "/api/v1/services?watch=1&resourceVersion=9&labelSelector=app%3Da")
	// While the first flush hangs, more happens than the Store remembers.
	for revision := int64(10); revision < 10+10000; revision++ {
		put(store, revision, namespace("x"))
	}
	close(pause)
	w.expect("ERROR 410 Expired too old resource version: 9 (10009)")
	w.end()
}

// After etcd went back a watch ends: what its client knows is void, and the new
// revisions mean nothing to it.
func TestWatchWentBack(t *testing.T) {
	s, store := newTestServer(t, 100, at(90, service("x", "old", "10.96.1.1")))
	w := openWatch(t, s.Handler(), "/api/v1/services?watch=1&resourceVersion=100")
	store.Replace(50, nil)
	w.expect("ERROR 410 Expired too old resource version: 100 (50)")
	w.end()
	w = openWatch(t, s.Handler(), "/api/v1/services?watch=1&resourceVersion=50")
	put(store, 51, service("x", "new", "10.96.1.1"))
	w.expect("ADDED new@51")
}
