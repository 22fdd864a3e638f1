package api

import (
	"fmt"
	"net/http"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// attributes say what a request is about in the words of Kubernetes'
// authorization, before anybody looks whether there is such a thing.
type attributes struct {
	verb string
	path string // of a request that is about no resource

	group, resource, subresource string
	namespace, name              string
}

// resourceVerbs are the verbs of methods that are about a resource.
var resourceVerbs = map[string]string{
	http.MethodGet: "get", http.MethodHead: "get", http.MethodPost: "create", http.MethodPut: "update",
	http.MethodPatch: "patch", http.MethodDelete: "delete",
}

// attributesOf reads them from a request, as Kubernetes' RequestInfoFactory
// does. A watch counts as a list.
func attributesOf(r *http.Request) attributes {
	a := attributes{verb: strings.ToLower(r.Method), path: r.URL.Path}
	segments, ok := pathSegments(r.URL.EscapedPath())
	verb := resourceVerbs[r.Method]
	if !ok || verb == "" {
		return a
	}
	switch {
	case len(segments) > 2 && segments[0] == "api":
		segments = segments[2:]
	case len(segments) > 3 && segments[0] == "apis":
		a.group, segments = segments[1], segments[3:]
	default:
		return a
	}
	a.verb, a.path = verb, ""
	if segments[0] == "namespaces" && len(segments) > 1 {
		a.namespace = segments[1]
		if len(segments) > 2 && segments[2] != "status" && segments[2] != "finalize" {
			segments = segments[2:]
		}
	}
	for i, field := range []*string{&a.resource, &a.name, &a.subresource} {
		if i < len(segments) {
			*field = segments[i]
		}
	}
	if a.name == "" {
		switch verb {
		case "get":
			a.verb = "list"
		case "delete":
			a.verb = "deletecollection"
		}
	}
	return a
}

// reads reports whether a changes nothing.
func (a attributes) reads() bool {
	switch a.verb {
	case "get", "list", "watch":
		return true
	}
	return a.resource == "" && a.verb == "head"
}

// asksAboutSelf reports whether a is a question about the caller, which is put
// by creating a review. As system:basic-user in Kubernetes, everybody who has a
// token may.
func (a attributes) asksAboutSelf() bool {
	return a.verb == "create" && a.name == "" && reviewOf(a.group, a.resource) != nil
}

// groupResource returns what a is about.
func (a attributes) groupResource() schema.GroupResource {
	return schema.GroupResource{Group: a.group, Resource: a.resource}
}

// forbid is the answer to a caller who may not do a, in Kubernetes' words.
func (a attributes) forbid(c caller) error {
	resource := a.resource
	if a.subresource != "" {
		resource += "/" + a.subresource
	}
	var err error
	switch {
	case a.resource == "":
		err = fmt.Errorf("User %q cannot %s path %q", c.name, a.verb, a.path)
	case a.namespace != "":
		err = fmt.Errorf("User %q cannot %s resource %q in API group %q in the namespace %q", c.name, a.verb, resource, a.group, a.namespace)
	default:
		err = fmt.Errorf("User %q cannot %s resource %q in API group %q at the cluster scope", c.name, a.verb, resource, a.group)
	}
	return apierrors.NewForbidden(a.groupResource(), a.name, err)
}

// attributesIn returns what a SelfSubjectAccessReview asks about.
func attributesIn(spec authorizationv1.SelfSubjectAccessReviewSpec) attributes {
	if n := spec.NonResourceAttributes; n != nil {
		return attributes{verb: n.Verb, path: n.Path}
	}
	r := spec.ResourceAttributes
	return attributes{
		verb: r.Verb, group: r.Group, resource: r.Resource, subresource: r.Subresource, namespace: r.Namespace, name: r.Name,
	}
}
