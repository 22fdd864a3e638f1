package api

import (
	"net/http"
	"slices"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"usher/registry"
)

// A resource is what discovery says of one, or of a subresource.
type resource struct {
	schema.GroupVersionKind // of its objects

	group      schema.GroupVersion // it belongs to
	name       string              // "services"; of a subresource "status"
	singular   string
	shortNames []string
	categories []string
	namespaced bool
	verbs      []string
	parts      []resource // its subresources
}

// resources lists what there is.
func resources() []resource {
	var list []resource
	for _, k := range registry.Kinds {
		r := resource{
			GroupVersionKind: k.GroupVersionKind, group: k.GroupVersion(), name: k.Resource, singular: k.Singular,
			shortNames: k.ShortNames, categories: k.Categories, namespaced: k.Namespaced,
			verbs: []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"},
		}
		if k == registry.Namespaces { // as in Kubernetes: all of them would be too easy to lose
			r.verbs = slices.DeleteFunc(r.verbs, func(v string) bool { return v == "deletecollection" })
		}
		if k.HasStatus {
			r.parts = append(r.parts, resource{
				GroupVersionKind: k.GroupVersionKind, name: "status", namespaced: k.Namespaced, verbs: []string{"get", "patch", "update"},
			})
		}
		if k == registry.Pods {
			r.parts = append(r.parts, resource{GroupVersionKind: k.GroupVersionKind, name: "log", namespaced: true, verbs: []string{"get"}})
		}
		list = append(list, r)
	}
	for _, v := range reviews {
		list = append(list, resource{
			GroupVersionKind: v.GroupVersionKind, group: v.GroupVersion(), name: v.resource, singular: strings.ToLower(v.Kind), verbs: []string{"create"},
		})
	}
	return list
}

// groupVersions returns the groups and versions of what there is.
func groupVersions() []schema.GroupVersion {
	var list []schema.GroupVersion
	for _, r := range resources() {
		if !slices.Contains(list, r.group) {
			list = append(list, r.group)
		}
	}
	return list
}

// discovery returns what serves a path that says what there is, /api, /apis or
// one below, or nil where these say nothing. The first two say all at once to
// clients that ask for that (KEP-3352); the old form is a document a version.
func (s *Server) discovery(segments []string) func(http.ResponseWriter, *http.Request) error {
	doc := oldDiscovery(segments)
	if doc == nil {
		return nil
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		if len(segments) == 1 {
			w.Header().Set("Vary", "Accept")
			if version := acceptedDiscovery(r.Header.Values("Accept")); version != "" {
				return answerDiscovery(w, r, version, aggregatedDiscovery(segments[0] == "api"))
			}
		}
		return answer(w, encoding{}, http.StatusOK, doc)
	}
}

// oldDiscovery returns a document of the old form.
func oldDiscovery(segments []string) any {
	switch {
	case segments[0] == "api" && len(segments) == 1:
		return metav1.APIVersions{
			TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"},
			ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{},
		}
	case segments[0] == "api" && len(segments) == 2:
		return resourceList(schema.GroupVersion{Version: segments[1]})
	case segments[0] == "apis" && len(segments) == 1:
		return metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: groups()}
	case segments[0] == "apis" && len(segments) == 2:
		for _, g := range groups() {
			if g.Name == segments[1] {
				g.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
				return g
			}
		}
	case segments[0] == "apis" && len(segments) == 3 && segments[1] != "":
		return resourceList(schema.GroupVersion{Group: segments[1], Version: segments[2]})
	}
	return nil
}

// groups returns the named groups, each of which has one version.
func groups() []metav1.APIGroup {
	list := []metav1.APIGroup{}
	for _, gv := range groupVersions() {
		if gv.Group == "" {
			continue
		}
		v := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
		list = append(list, metav1.APIGroup{
			Name: gv.Group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v,
		})
	}
	return list
}

// resourceList returns the resources of gv, or nil if there are none.
func resourceList(gv schema.GroupVersion) any {
	list := metav1.APIResourceList{
		TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String(),
	}
	for _, r := range resources() {
		if r.group != gv {
			continue
		}
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: r.name, SingularName: r.singular, Namespaced: r.namespaced, Kind: r.Kind,
			ShortNames: r.shortNames, Categories: r.categories, Verbs: r.verbs,
		})
		for _, part := range r.parts {
			list.APIResources = append(list.APIResources, metav1.APIResource{
				Name: r.name + "/" + part.name, Namespaced: part.namespaced, Kind: part.Kind, Verbs: part.verbs,
			})
		}
	}
	if list.APIResources == nil {
		return nil
	}
	return list
}

// aggregatedDiscovery returns the one document for all of /api, which has the
// group without a name, or of /apis.
func aggregatedDiscovery(core bool) apidiscoveryv2.APIGroupDiscoveryList {
	list := apidiscoveryv2.APIGroupDiscoveryList{Items: []apidiscoveryv2.APIGroupDiscovery{}}
	for _, gv := range groupVersions() {
		if (gv.Group == "") != core {
			continue
		}
		version := apidiscoveryv2.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
		for _, r := range resources() {
			if r.group == gv {
				version.Resources = append(version.Resources, r.discovered())
			}
		}
		list.Items = append(list.Items, apidiscoveryv2.APIGroupDiscovery{
			ObjectMeta: metav1.ObjectMeta{Name: gv.Group}, Versions: []apidiscoveryv2.APIVersionDiscovery{version},
		})
	}
	return list
}

// discovered returns r as the aggregated document has it.
func (r resource) discovered() apidiscoveryv2.APIResourceDiscovery {
	out := apidiscoveryv2.APIResourceDiscovery{
		Resource: r.name, ResponseKind: r.responseKind(), Scope: apidiscoveryv2.ScopeCluster,
		SingularResource: r.singular, Verbs: r.verbs, ShortNames: r.shortNames, Categories: r.categories,
	}
	if r.namespaced {
		out.Scope = apidiscoveryv2.ScopeNamespace
	}
	for _, part := range r.parts {
		out.Subresources = append(out.Subresources, apidiscoveryv2.APISubresourceDiscovery{
			Subresource: part.name, ResponseKind: part.responseKind(), Verbs: part.verbs,
		})
	}
	return out
}

func (r resource) responseKind() *metav1.GroupVersionKind {
	return &metav1.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind}
}
