package api

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/registry"
)

func TestEjections(t *testing.T) {
	h := New(Options{Store: registry.NewStore(), Ejections: func() []Ejection {
		return []Ejection{{Namespace: "a", Service: "x"}, {Namespace: "a", Service: "y"}, {Namespace: "b", Service: "x"}}
	}}).Handler()
	const path = "/apis/usher.internal/v1/ejections"
	for query, want := range map[string][]string{
		"":                        {"a/x", "a/y", "b/x"},
		"?namespace=a":            {"a/x", "a/y"},
		"?service=x":              {"a/x", "b/x"},
		"?namespace=b&service=x":  {"b/x"},
		"?namespace=none&service": {},
	} {
		var list EjectionList
		if err := json.Unmarshal([]byte(ask(t, h, http.MethodGet, path+query, "").body), &list); err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, e := range list.Items {
			got = append(got, e.Namespace+"/"+e.Service)
		}
		if diff := cmp.Diff(want, got); diff != "" || list.Kind != "EjectionList" {
			t.Errorf("%q: %s (-want +got):\n%s", query, list.Kind, diff)
		}
	}
	if got := ask(t, h, http.MethodDelete, path, ""); got.code != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: code %d", got.code)
	}
	if got := ask(t, New(Options{Store: registry.NewStore()}).Handler(), http.MethodGet, path, ""); got.code != http.StatusNotFound {
		t.Errorf("without a proxy: code %d", got.code)
	}
}
