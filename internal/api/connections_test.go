package api

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/registry"
)

// TestConnections checks how connections are asked for and answered with.
func TestConnections(t *testing.T) {
	var asked *ConnectionQuery
	h := New(Options{Store: registry.NewStore(), Connections: func(_ context.Context, q ConnectionQuery) (ConnectionList, error) {
		asked = &q
		return ConnectionList{}, nil
	}}).Handler()
	const path = "/apis/usher.internal/v1/connections"
	tests := []struct {
		query string
		want  *ConnectionQuery // nil: it is refused
	}{
		{"", &ConnectionQuery{Limit: 1000}},
		{"?namespace=finance&service=a&service=b&limit=7", &ConnectionQuery{Namespace: "finance", Services: []string{"a", "b"}, Limit: 7}},
		{"?limit=99999999", &ConnectionQuery{Limit: 100_000}},
		{"?limit=0", nil},
		{"?limit=x", nil},
	}
	for _, tt := range tests {
		asked = nil
		got := ask(t, h, http.MethodGet, path+tt.query, "")
		if diff := cmp.Diff(tt.want, asked); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.query, diff)
		}
		if tt.want == nil && got.code != http.StatusBadRequest {
			t.Errorf("%q: code %d", tt.query, got.code)
		}
		if tt.want != nil && got.body != `{"kind":"ConnectionList","apiVersion":"usher.internal/v1","metadata":{},"items":[]}`+"\n" {
			t.Errorf("%q: %s", tt.query, got.body)
		}
	}
	if got := ask(t, h, http.MethodDelete, path, ""); got.code != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: code %d", got.code)
	}
	if got := ask(t, New(Options{Store: registry.NewStore()}).Handler(), http.MethodGet, path, ""); got.code != http.StatusNotFound || !strings.Contains(got.body, "NotFound") {
		t.Errorf("without a proxy: %d %s", got.code, got.body)
	}
}
