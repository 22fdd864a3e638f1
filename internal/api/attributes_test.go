package api

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAttributes(t *testing.T) {
	tests := []struct {
		method, path string
		want         attributes
		forbidden    string // "": a viewer may
	}{
		{"GET", "/api/v1/services", attributes{verb: "list", resource: "services"}, ""},
		{"HEAD", "/api/v1/services", attributes{verb: "list", resource: "services"}, ""},
		{"GET", "/api/v1/namespaces/a/pods/b/log", attributes{verb: "get", resource: "pods", subresource: "log", namespace: "a", name: "b"}, ""},
		{"GET", "/version", attributes{verb: "get", path: "/version"}, ""},
		{"HEAD", "/version", attributes{verb: "head", path: "/version"}, ""},
		{"POST", "/api/v1/namespaces/a/services", attributes{verb: "create", resource: "services", namespace: "a"},
			`services is forbidden: User "usher:view" cannot create resource "services" in API group "" in the namespace "a"`},
		{"PUT", "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices/b", attributes{verb: "update", group: "discovery.k8s.io", resource: "endpointslices", namespace: "a", name: "b"},
			`endpointslices.discovery.k8s.io "b" is forbidden: User "usher:view" cannot update resource "endpointslices" in API group "discovery.k8s.io" in the namespace "a"`},
		{"PATCH", "/api/v1/namespaces/a/services/b/status", attributes{verb: "patch", resource: "services", subresource: "status", namespace: "a", name: "b"},
			`services "b" is forbidden: User "usher:view" cannot patch resource "services/status" in API group "" in the namespace "a"`},
		{"DELETE", "/api/v1/namespaces/a", attributes{verb: "delete", resource: "namespaces", namespace: "a", name: "a"},
			`namespaces "a" is forbidden: User "usher:view" cannot delete resource "namespaces" in API group "" in the namespace "a"`},
		{"PUT", "/api/v1/namespaces/a/status", attributes{verb: "update", resource: "namespaces", subresource: "status", namespace: "a", name: "a"},
			`namespaces "a" is forbidden: User "usher:view" cannot update resource "namespaces/status" in API group "" in the namespace "a"`},
		{"DELETE", "/api/v1/namespaces/a/pods", attributes{verb: "deletecollection", resource: "pods", namespace: "a"},
			`pods is forbidden: User "usher:view" cannot deletecollection resource "pods" in API group "" in the namespace "a"`},
		{"DELETE", "/api/v1/nodes/a%20b", attributes{verb: "delete", resource: "nodes", name: "a b"},
			`nodes "a b" is forbidden: User "usher:view" cannot delete resource "nodes" in API group "" at the cluster scope`},
		{"POST", "/apis/usher.internal/v1/leases", attributes{verb: "create", group: "usher.internal", resource: "leases"},
			`leases.usher.internal is forbidden: User "usher:view" cannot create resource "leases" in API group "usher.internal" at the cluster scope`},
		{"POST", "/version", attributes{verb: "post", path: "/version"}, `forbidden: User "usher:view" cannot post path "/version"`},
		{"POST", "/api/v1", attributes{verb: "post", path: "/api/v1"}, `forbidden: User "usher:view" cannot post path "/api/v1"`},
		{"PUT", "/api/v1//services", attributes{verb: "put", path: "/api/v1//services"}, `forbidden: User "usher:view" cannot put path "/api/v1//services"`},
		{"CONNECT", "/api/v1/services", attributes{verb: "connect", path: "/api/v1/services"}, `forbidden: User "usher:view" cannot connect path "/api/v1/services"`},

		{"POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", attributes{verb: "create", group: "authorization.k8s.io", resource: "selfsubjectaccessreviews"}, ""},
		{"POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", attributes{verb: "create", group: "authentication.k8s.io", resource: "selfsubjectreviews"}, ""},
		{"POST", "/apis/x.k8s.io/v1/selfsubjectreviews", attributes{verb: "create", group: "x.k8s.io", resource: "selfsubjectreviews"},
			`selfsubjectreviews.x.k8s.io is forbidden: User "usher:view" cannot create resource "selfsubjectreviews" in API group "x.k8s.io" at the cluster scope`},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			got := attributesOf(httptest.NewRequest(tt.method, tt.path, nil))
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(attributes{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			viewer := user("usher:view", RoleView)
			if allowed := RoleView.allows(got); allowed != (tt.forbidden == "") {
				t.Errorf("a viewer may: %v", allowed)
			}
			if err := got.forbid(viewer); tt.forbidden != "" && err.Error() != tt.forbidden {
				t.Errorf("%s, want\n%s", err, tt.forbidden)
			}
			if !RoleAdmin.allows(got) || Role("").allows(got) {
				t.Error("an administrator may not, or nobody may")
			}
		})
	}
}

// Whatever the path is, a viewer writes nothing but reviews.
func FuzzAttributes(f *testing.F) {
	for _, path := range []string{"/", "/api/v1/services", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "/api/v1/namespaces/a/services/b/status", "/%2f/..//api"} {
		f.Add("POST", path)
		f.Add("GET", path)
	}
	s := New(Options{})
	f.Fuzz(func(t *testing.T, method, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		r := &http.Request{Method: method, URL: u}
		a := attributesOf(r)
		if reads := method == http.MethodGet || method == http.MethodHead; a.resource != "" && RoleView.allows(a) && !reads && !a.asksAboutSelf() {
			t.Errorf("%s %s is %+v", method, path, a)
		}
		if c, err := s.route(r); err == nil && a.asksAboutSelf() && reviewOf(a.group, c.resource) == nil {
			t.Errorf("%s %s is %+v, and served as %s %s", method, path, a, c.verb, c.resource)
		}
	})
}
