package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
)

// readPage lists a page and returns the names on it.
func readPage(t *testing.T, h http.Handler, query string) (string, metav1.ListMeta) {
	t.Helper()
	got := ask(t, h, "GET", "/api/v1/services?"+query, "")
	if got.code != http.StatusOK {
		t.Fatalf("%s: %d %s", query, got.code, got.body)
	}
	list := decode[corev1.ServiceList](t, got.body)
	var names []string
	for _, svc := range list.Items {
		names = append(names, svc.Namespace+"/"+svc.Name)
	}
	return strings.Join(names, " "), list.ListMeta
}

func goOn(meta metav1.ListMeta) string { return "limit=2&continue=" + url.QueryEscape(meta.Continue) }

// TestPages reads a list page by page while the registry changes: it is a list
// of one moment.
func TestPages(t *testing.T) {
	s, store := newTestServer(t, 9)
	for i, name := range []string{"a/1", "a/2", "a-b/1", "b/1", "b/2"} {
		namespace, name, _ := strings.Cut(name, "/")
		put(store, int64(10+i), service(namespace, name, "10.96.0.9"))
	}
	h := s.Handler()
	remaining := func(meta metav1.ListMeta) int64 {
		if meta.RemainingItemCount == nil {
			return -1
		}
		return *meta.RemainingItemCount
	}
	names, first := readPage(t, h, "limit=2")
	if names != "a-b/1 a/1" || first.Continue == "" || remaining(first) < 3 {
		t.Fatalf("first: %s, %+v", names, first)
	}
	remove(store, 20, registry.Key{Kind: registry.Services, Namespace: "a", Name: "2"})
	put(store, 21, service("a", "3", "10.96.0.8"))
	names, second := readPage(t, h, goOn(first))
	if names != "a/2 b/1" || second.ResourceVersion != first.ResourceVersion || remaining(second) != remaining(first)-2 {
		t.Errorf("second: %s, %+v", names, second)
	}
	if names, last := readPage(t, h, goOn(second)); !strings.HasPrefix(names, "b/2") || last.ResourceVersion != first.ResourceVersion {
		t.Errorf("last: %s, %+v", names, last)
	}
	// That moment can be asked for as long as it is kept.
	if names, _ := readPage(t, h, "resourceVersionMatch=Exact&resourceVersion="+first.ResourceVersion); !strings.Contains(names, "a/2") {
		t.Errorf("exact: %s", names)
	}
	if _, meta := readPage(t, h, "limit=2&labelSelector=a!%3Db"); meta.Continue == "" || remaining(meta) != -1 {
		t.Errorf("by label: %+v", meta)
	}
	if _, meta := readPage(t, h, "limit=100"); meta.Continue != "" || remaining(meta) != -1 {
		t.Errorf("a limit that is not reached: %+v", meta)
	}
	table := decode[metav1.Table](t, ask(t, h, "GET", "/api/v1/services?limit=2", "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").body)
	if len(table.Rows) != 2 || table.Continue == "" {
		t.Errorf("table: %+v", table)
	}
	tests := []struct {
		query, message string
		code           int
	}{
		{"continue=x&resourceVersion=9", "specifying resource version is not allowed when using continue", 400},
		{"limit=2&continue=" + goOn(first)[len("limit=2&continue="):] + "x*", "continue key is not valid: illegal base64", 400},
		{"limit=2&continue=e30", "continue key is not valid: incorrect encoded start key", 400},
	}
	for _, tt := range tests {
		if got := ask(t, h, "GET", "/api/v1/services?"+tt.query, ""); got.code != tt.code || !strings.Contains(got.status.Message, tt.message) {
			t.Errorf("%s: %d %q, want %d %q", tt.query, got.code, got.status.Message, tt.code, tt.message)
		}
	}
}

// TestPageGone checks that states are kept for a bounded number of lists, and
// that a client can go on without.
func TestPageGone(t *testing.T) {
	s, store := newTestServer(t, 9)
	put(store, 9, service("a", "00", "10.96.0.7"))
	h := s.Handler()
	var first metav1.ListMeta
	for i := range maxKept + 1 {
		put(store, int64(10+i), service("a", fmt.Sprint(i), "10.96.0.9"))
		_, meta := readPage(t, h, "limit=1")
		if i == 0 {
			first = meta
		}
	}
	got := ask(t, h, "GET", "/api/v1/services?"+goOn(first), "")
	if got.code != http.StatusGone || got.status.Reason != metav1.StatusReasonExpired || !strings.HasPrefix(got.status.Message, "The provided continue parameter is too old") {
		t.Fatalf("%d %s", got.code, got.body)
	}
	if names, meta := readPage(t, h, goOn(got.status.ListMeta)); !strings.HasPrefix(names, "a/00 a/1") || meta.ResourceVersion == first.ResourceVersion {
		t.Errorf("what remains: %s, %+v", names, meta)
	}
}

// TestKeptExpire checks that states are not kept for lists that nobody reads on.
func TestKeptExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := registry.NewStore()
		var k kept
		for revision := range int64(2) {
			store.Replace(revision+1, nil)
			k.put(store.Snapshot(), time.Now())
			time.Sleep(keptFor - time.Second)
		}
		if k.at(1, time.Now()) != nil || k.at(2, time.Now()) == nil {
			t.Error("the one that has not expired is not there alone")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		k.mu.Lock()
		defer k.mu.Unlock()
		if len(k.list) > 0 {
			t.Errorf("%d are kept without a reader", len(k.list))
		}
	})
}

func FuzzParseCursor(f *testing.F) {
	f.Add(cursor{7, "a/b"}.String())
	f.Add("e30")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := parseCursor(token)
		if again, err2 := parseCursor(c.String()); err == nil && (again != c || err2 != nil) {
			t.Errorf("%q: %+v, and then %+v, %v", token, c, again, err2)
		}
	})
}
