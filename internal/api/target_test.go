package api

import (
	"net/http"
	"strings"
	"testing"

	"usher/registry"
)

func TestParseTarget(t *testing.T) {
	tests := []struct {
		path string
		want target
		ok   bool
	}{
		{"/api/v1/services", target{kind: registry.Services}, true},
		{"/api/v1/services/", target{kind: registry.Services}, true},
		{"/api/v1/namespaces/finance/services", target{kind: registry.Services, namespace: "finance"}, true},
		{"/api/v1/namespaces/finance/services/pay", target{kind: registry.Services, namespace: "finance", name: "pay"}, true},
		{"/api/v1/namespaces/finance/services/pay/status", target{registry.Services, "finance", "pay", "status"}, true},
		{"/api/v1/namespaces", target{kind: registry.Namespaces}, true},
		{"/api/v1/namespaces/finance", target{kind: registry.Namespaces, name: "finance"}, true},
		{"/api/v1/namespaces/finance/status", target{kind: registry.Namespaces, name: "finance", subresource: "status"}, true},
		{"/api/v1/namespaces/namespaces/services/services", target{kind: registry.Services, namespace: "namespaces", name: "services"}, true},
		{"/api/v1/nodes/laptop", target{kind: registry.Nodes, name: "laptop"}, true},
		{"/apis/discovery.k8s.io/v1/endpointslices", target{kind: registry.EndpointSlices}, true},
		{"/apis/discovery.k8s.io/v1/namespaces/a/endpointslices/b", target{kind: registry.EndpointSlices, namespace: "a", name: "b"}, true},
		{"/apis/networking.k8s.io/v1/ipaddresses/10.96.0.1", target{kind: registry.IPAddresses, name: "10.96.0.1"}, true},
		{"/api/v1/namespaces/finance/services/http:pay:80/proxy/a/b/c", target{registry.Services, "finance", "http:pay:80", "proxy"}, true},
		{"/api/v1/nodes/laptop/proxy/metrics", target{kind: registry.Nodes, name: "laptop", subresource: "proxy"}, true},
		{"/api/v1/namespaces/finance/services/p%61y", target{kind: registry.Services, namespace: "finance", name: "pay"}, true},

		{path: "/"},
		{path: "/api/v1"},
		{path: "/api/v2/services"},
		{path: "/api/v1/secrets"},
		{path: "/apis/apps/v1/deployments"},
		{path: "/apis/discovery.k8s.io/v1/services"},          // of another group
		{path: "/api/v1/endpointslices"},                      // likewise
		{path: "/api/v1/services/pay"},                        // no namespace
		{path: "/api/v1/namespaces/finance/nodes"},            // has none
		{path: "/api/v1/namespaces/finance/services/a/b/c"},   // too long
		{path: "/api/v1/namespaces/finance/services/a/log"},   // no such subresource
		{path: "/api/v1/namespaces/finance/events/a/proxy/b"}, // cannot be dialed
		{path: "/api/v1/namespaces/finance/events/a/status"},  // has no status
		{path: "/api/v1/namespaces/finance/services//"},
		{path: "/api/v1//services"},
		{path: "//api/v1/services"},
		{path: "/api/v1/namespaces/a%2Fb/services"},
		{path: "/api/v1/namespaces/%zz/services"},
		{path: "/apis//v1/services"},
	}
	for _, tt := range tests {
		var got target
		segments, ok := pathSegments(tt.path)
		if ok {
			got, ok = parseTarget(segments)
		}
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%s = %+v, %t, want %+v, %t", tt.path, got, ok, tt.want, tt.ok)
		}
	}
}

// What usher has not says so, and what to do instead, to every method that
// kubectl may come with.
func TestNotServed(t *testing.T) {
	s, _ := newTestServer(t, 9, pod("finance", "a", "pay", "10.0.0.1", true))
	for name, instead := range notServed {
		resource, subresource, _ := strings.Cut(name, "/")
		path := "/api/v1/namespaces/finance/" + resource + "/a/" + subresource
		if resource == "nodes" {
			path = "/api/v1/nodes/a/" + subresource
		}
		paths := []string{path}
		if subresource == "proxy" {
			paths = append(paths, path+"/", path+"/metrics/x?a=b")
		}
		for _, path := range paths {
			for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
				got := ask(t, s.Handler(), method, path, "", "Accept", "*/*")
				if got.code != http.StatusNotImplemented || got.status.Reason != "NotImplemented" ||
					got.status.Message != name+" is not implemented by usher: "+instead {
					t.Errorf("%s %s: %d %s", method, path, got.code, got.body)
				}
			}
		}
	}
}

func TestVerb(t *testing.T) {
	one := target{kind: registry.Services, namespace: "a", name: "b"}
	status := target{kind: registry.Services, namespace: "a", name: "b", subresource: "status"}
	collection := target{kind: registry.Services, namespace: "a"}
	everywhere := target{kind: registry.Services}
	cluster := target{kind: registry.Nodes}
	tests := []struct {
		method string
		want   map[target]string
	}{
		{http.MethodGet, map[target]string{one: "get", status: "get", collection: "list", everywhere: "list", cluster: "list"}},
		{http.MethodHead, map[target]string{one: "get", status: "get", collection: "list", everywhere: "list", cluster: "list"}},
		{http.MethodPost, map[target]string{one: "", status: "", collection: "create", everywhere: "", cluster: "create"}},
		{http.MethodPut, map[target]string{one: "update", status: "update", collection: "", everywhere: "", cluster: ""}},
		{http.MethodPatch, map[target]string{one: "patch", status: "patch", collection: "", everywhere: "", cluster: ""}},
		{http.MethodDelete, map[target]string{one: "delete", status: "", collection: "deletecollection", everywhere: "", cluster: "deletecollection"}},
		{http.MethodOptions, map[target]string{one: "", collection: ""}},
		{"FOO", map[target]string{one: "", collection: ""}},
	}
	for _, tt := range tests {
		for target, want := range tt.want {
			if got := target.verb(tt.method); got != want {
				t.Errorf("%s %+v = %q, want %q", tt.method, target, got, want)
			}
		}
	}
}

// FuzzParseTarget checks that whatever is taken for a target is written as one
// path only, and that no name escapes its place in a registry key.
func FuzzParseTarget(f *testing.F) {
	f.Add("/api/v1/namespaces/a/services/b/status")
	f.Add("/apis/discovery.k8s.io/v1/namespaces/a/endpointslices")
	f.Add("/api/v1/namespaces/a%2fb/pods/%2e%2e")
	f.Fuzz(func(t *testing.T, path string) {
		segments, ok := pathSegments(path)
		if !ok {
			return
		}
		got, ok := parseTarget(segments)
		if !ok {
			return
		}
		if strings.Contains(got.namespace+got.name, "/") {
			t.Fatalf("%q: a name with a slash: %+v", path, got)
		}
		if got.kind.Namespaced && got.name != "" && got.namespace == "" || !got.kind.Namespaced && got.namespace != "" {
			t.Fatalf("%q: wrong scope: %+v", path, got)
		}
		if got.name != "" {
			if key, ok := registry.ParseKey(got.key().String()); !ok || key != got.key() {
				t.Fatalf("%q: key %q is read as %+v", path, got.key(), key)
			}
		}
	})
}
