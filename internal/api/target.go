package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
)

// A target is what the path of a request addresses: the objects of one Kind,
// or one of them.
type target struct {
	kind        *registry.Kind
	namespace   string // "" for all namespaces, and where the Kind has none
	name        string // "" for the collection
	subresource string // "", "status" or, of a Pod, "log"
}

// key returns the Key of the object that t addresses.
func (t target) key() registry.Key {
	return registry.Key{Kind: t.kind, Namespace: t.namespace, Name: t.name}
}

// pathSegments splits an escaped URL path. It reports false for a path with an
// empty segment or an escaped slash, which no name has.
func pathSegments(path string) ([]string, bool) {
	path = strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/")
	segments := strings.Split(path, "/")
	for i, s := range segments {
		s, err := url.PathUnescape(s)
		if err != nil || s == "" || strings.Contains(s, "/") {
			return nil, false
		}
		segments[i] = s
	}
	return segments, true
}

// parseTarget reads the path of a resource: /api/v1/… or
// /apis/<group>/<version>/…, followed by [namespaces/<namespace>/]<resource>
// [/<name>[/status]]. It reports false for what is no resource of the registry.
func parseTarget(segments []string) (target, bool) {
	var group, version string
	var rest []string
	switch {
	case len(segments) > 2 && segments[0] == "api":
		version, rest = segments[1], segments[2:]
	case len(segments) > 3 && segments[0] == "apis":
		group, version, rest = segments[1], segments[2], segments[3:]
	default:
		return target{}, false
	}
	var t target
	// namespaces/<name>/status is about the Namespace: no resource is called so.
	if rest[0] == registry.Namespaces.Resource && len(rest) > 2 && kindOf(group, version, rest[2]) != nil {
		t.namespace, rest = rest[1], rest[2:]
	}
	t.kind = kindOf(group, version, rest[0])
	if t.kind == nil || t.kind.Namespaced != (t.namespace != "") && (len(rest) > 1 || t.namespace != "") {
		return target{}, false
	}
	if len(rest) > 3 && rest[2] == "proxy" {
		rest = rest[:3] // what follows is a path at the other end
	}
	switch len(rest) {
	case 1:
		return t, true
	case 2:
		t.name = rest[1]
		return t, true
	case 3:
		t.name, t.subresource = rest[1], rest[2]
		return t, t.subresource == "status" && t.kind.HasStatus || t.subresource == "log" && t.kind == registry.Pods || notServed[t.kind.Resource+"/"+t.subresource] != ""
	}
	return target{}, false
}

// notServed has Kubernetes' subresources that usher has not, and what to do
// instead.
var notServed = map[string]string{
	"pods/attach":              "read what it writes with `usher logs`",
	"pods/exec":                "its processes are this machine's: start another one beside them with `usher exec`",
	"pods/portforward":         "dial the Pod at its address, or the Service at its ClusterIP, with `usher exec`",
	"pods/proxy":               "dial the Pod at its address",
	"services/proxy":           "dial the Service at its ClusterIP, with `usher exec`",
	"nodes/proxy":              "there is no kubelet",
	"pods/binding":             "a Pod says itself which node it is on",
	"pods/ephemeralcontainers": "its processes are this machine's: attach to them as to any other",
	"pods/eviction":            "delete the Pod",
	"pods/resize":              "usher limits no resources",
}

// errNotServed is the answer to a request for one of them.
func errNotServed(t target, instead string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotImplemented, Reason: "NotImplemented",
		Message: fmt.Sprintf("%s/%s is not implemented by usher: %s", t.kind.Resource, t.subresource, instead),
		Details: &metav1.StatusDetails{Group: t.kind.Group, Kind: t.kind.Resource, Name: t.name},
	}}
}

// kindOf returns the Kind of a resource, or nil.
func kindOf(group, version, resource string) *registry.Kind {
	for _, k := range registry.Kinds {
		if k.Group == group && k.Version == version && k.Resource == resource {
			return k
		}
	}
	return nil
}

// verb returns what a method does to t, in Kubernetes' words: "" when it is
// not allowed. A list becomes a watch by its query.
func (t target) verb(method string) string {
	collection := t.name == ""
	oneScope := t.namespace != "" || !t.kind.Namespaced // not "all namespaces"
	switch {
	case (method == http.MethodGet || method == http.MethodHead) && collection:
		return "list"
	case method == http.MethodGet, method == http.MethodHead:
		return "get"
	case method == http.MethodPut && !collection:
		return "update"
	case method == http.MethodPatch && !collection:
		return "patch"
	case t.subresource != "":
		return ""
	case method == http.MethodPost && collection && oneScope:
		return "create"
	case method == http.MethodDelete && collection && oneScope && t.kind != registry.Namespaces:
		return "deletecollection"
	case method == http.MethodDelete && !collection:
		return "delete"
	}
	return ""
}
