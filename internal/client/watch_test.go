package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"usher/registry"
)

// event returns a line of a watch about a Pod.
func event(typ watch.EventType, name string) string {
	return fmt.Sprintf(`{"type":%q,"object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":%q}}}`+"\n", typ, name)
}

const expired = `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","message":"too old","reason":"Expired","code":410}}` + "\n"

// read returns the events of a stream, and the error at its end.
func read(s *Stream) (events []string, err error) {
	for {
		ev, err := s.Next()
		if err != nil {
			return events, err
		}
		events = append(events, fmt.Sprint(ev.Type, " ", ev.Object.(registry.Object).GetName()))
	}
}

func TestStream(t *testing.T) {
	tests := map[string]struct {
		body string
		want []string
		end  func(error) bool
	}{
		"ended":         {event("ADDED", "a") + event("MODIFIED", "a") + event("BOOKMARK", "") + event("DELETED", "a"), []string{"ADDED a", "MODIFIED a", "DELETED a"}, isEOF},
		"cut":           {event("ADDED", "a") + `{"type":"ADD`, []string{"ADDED a"}, isEOF},
		"expired":       {event("ADDED", "a") + expired, []string{"ADDED a"}, apierrors.IsResourceExpired},
		"garbage":       {event("ADDED", "a") + "garbage", []string{"ADDED a"}, func(err error) bool { return !isEOF(err) && !errors.As(err, new(apierrors.APIStatus)) }},
		"another shape": {`{"type":"ADDED","object":7}`, nil, func(err error) bool { return !isEOF(err) }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var query string
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				query = r.URL.RawQuery
				io.WriteString(w, tt.body)
			})
			s, err := c.WatchObjects(t.Context(), registry.Key{Kind: registry.Pods}, ListOptions{ResourceVersion: "7", Limit: 5})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			got, err := read(s)
			if diff := cmp.Diff(tt.want, got); diff != "" || !tt.end(err) {
				t.Errorf("events (-want +got):\n%send %v", diff, err)
			}
			if want := "resourceVersion=7&watch=true"; query != want {
				t.Errorf("query %q, want %q", query, want)
			}
		})
	}
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// hold answers with a body and then keeps the request open.
func hold(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, body)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
}

func TestStreamEndsWithContext(t *testing.T) {
	c := serve(t, hold(event("ADDED", "a")))
	ctx, cancel := context.WithCancel(t.Context())
	s, err := c.WatchObjects(ctx, registry.Key{Kind: registry.Pods}, ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Next(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := s.Next(); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestWatchTable(t *testing.T) {
	var accept string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		accept = r.Header.Get("Accept")
		io.WriteString(w, `{"type":"ADDED","object":{"kind":"Table","rows":[{"cells":["a",1]}]}}`)
	})
	s, err := c.WatchTable(t.Context(), registry.Key{Kind: registry.Pods}, ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ev, err := s.Next()
	if err != nil {
		t.Fatal(err)
	}
	if table := ev.Object.(*metav1.Table); len(table.Rows) != 1 || accept != "application/json;as=Table;v=v1;g=meta.k8s.io" {
		t.Errorf("table %v, asked for by %q", table, accept)
	}
}

// A watch.Interface passes on why it ended, and Stop ends it.
func TestWatch(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, event("ADDED", "a")+expired) })
	w, err := c.Watch(t.Context(), registry.Pods, "")
	if err != nil {
		t.Fatal(err)
	}
	var got []watch.EventType
	for ev := range w.ResultChan() {
		got = append(got, ev.Type)
	}
	if diff := cmp.Diff([]watch.EventType{watch.Added, watch.Error}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	c = serve(t, hold(event("ADDED", "a")))
	if w, err = c.Watch(t.Context(), registry.Pods, ""); err != nil {
		t.Fatal(err)
	}
	<-w.ResultChan()
	w.Stop()
	for ev := range w.ResultChan() {
		t.Errorf("event %v after Stop", ev.Type)
	}
}

func TestWatchIsRefused(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusGone)
		io.WriteString(w, `{"kind":"Status","reason":"Expired","code":410}`)
	})
	if _, err := c.Watch(t.Context(), registry.Pods, ""); !apierrors.IsResourceExpired(err) {
		t.Errorf("error %v", err)
	}
}

// Of bookmarks the one that ends the initial events is told of.
func TestInitialEvents(t *testing.T) {
	var query string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		io.WriteString(w, event("ADDED", "a")+event("BOOKMARK", "")+
			`{"type":"BOOKMARK","object":{"metadata":{"annotations":{"k8s.io/initial-events-end":"true"}}}}`+event("ADDED", "b"))
	})
	s, err := c.WatchObjects(t.Context(), registry.Key{Kind: registry.Pods}, ListOptions{InitialEvents: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var got []watch.EventType
	for {
		ev, err := s.Next()
		if err != nil {
			break
		}
		got = append(got, ev.Type)
	}
	if diff := cmp.Diff([]watch.EventType{watch.Added, watch.Bookmark, watch.Added}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if want := "allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&watch=true"; query != want {
		t.Errorf("query %q, want %q", query, want)
	}
}
