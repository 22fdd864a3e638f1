package api

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"usher/registry"
)

// discovery returns the document that says what there is at /api, /apis and
// below, or nil where these say nothing. This is the old form of discovery, a
// document a version, that every client falls back to.
func (s *Server) discovery(segments []string) any {
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

// groups returns the named groups of the registry's Kinds.
func groups() []metav1.APIGroup {
	list := []metav1.APIGroup{}
	for _, k := range registry.Kinds {
		known := slices.ContainsFunc(list, func(g metav1.APIGroup) bool { return g.Name == k.Group })
		if k.Group == "" || known {
			continue
		}
		v := metav1.GroupVersionForDiscovery{GroupVersion: k.GroupVersion().String(), Version: k.Version}
		list = append(list, metav1.APIGroup{
			Name: k.Group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v,
		})
	}
	return list
}

// resourceList returns the resources of gv, or nil if there are none.
func resourceList(gv schema.GroupVersion) any {
	list := metav1.APIResourceList{
		TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String(),
	}
	for _, k := range registry.Kinds {
		if k.GroupVersion() != gv {
			continue
		}
		verbs := metav1.Verbs{"create", "delete", "deletecollection", "get", "list", "update", "watch"}
		if k == registry.Namespaces { // as in Kubernetes: all of them would be too easy to lose
			verbs = slices.DeleteFunc(verbs, func(v string) bool { return v == "deletecollection" })
		}
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: k.Resource, SingularName: k.Singular, Namespaced: k.Namespaced, Kind: k.Kind, ShortNames: k.ShortNames, Categories: k.Categories, Verbs: verbs,
		})
		if k.HasStatus {
			list.APIResources = append(list.APIResources, metav1.APIResource{
				Name: k.Resource + "/status", Namespaced: k.Namespaced, Kind: k.Kind, Verbs: metav1.Verbs{"get", "update"},
			})
		}
	}
	if list.APIResources == nil {
		return nil
	}
	return list
}
