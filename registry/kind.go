package registry

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Prefix begins every key of the registry in etcd. The rest of a key is
// <resource>/<namespace>/<name>, without the namespace where a Kind has none.
const Prefix = "/usher/registry/"

// An Object is a Kubernetes API object of one of the registry's Kinds.
type Object interface {
	metav1.Object
	runtime.Object
}

// A Kind describes one kind of object that the registry keeps. Kinds are
// compared by address.
type Kind struct {
	schema.GroupVersionKind
	Resource   string // plural, as in URLs and etcd keys: "services"
	Singular   string
	ShortNames []string
	Categories []string // names for several Kinds: "all"
	Namespaced bool
	HasStatus  bool // the status is written through the "status" subresource

	new func() Object
}

// The Kinds of the registry.
var (
	Services = &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Service"),
		Resource:         "services", Singular: "service", ShortNames: []string{"svc"}, Categories: []string{"all"},
		Namespaced: true, HasStatus: true,
		new: func() Object { return new(corev1.Service) },
	}
	Pods = &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Pod"),
		Resource:         "pods", Singular: "pod", ShortNames: []string{"po"}, Categories: []string{"all"},
		Namespaced: true, HasStatus: true,
		new: func() Object { return new(corev1.Pod) },
	}
	EndpointSlices = &Kind{
		GroupVersionKind: discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"),
		Resource:         "endpointslices", Singular: "endpointslice",
		Namespaced: true,
		new:        func() Object { return new(discoveryv1.EndpointSlice) },
	}
	Endpoints = &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Endpoints"),
		Resource:         "endpoints", Singular: "endpoints", ShortNames: []string{"ep"},
		Namespaced: true,
		new:        func() Object { return new(corev1.Endpoints) },
	}
	Events = &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Event"),
		Resource:         "events", Singular: "event", ShortNames: []string{"ev"},
		Namespaced: true,
		new:        func() Object { return new(corev1.Event) },
	}
	Namespaces = &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Namespace"),
		Resource:         "namespaces", Singular: "namespace", ShortNames: []string{"ns"},
		HasStatus: true,
		new:       func() Object { return new(corev1.Namespace) },
	}
	Nodes = &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Node"),
		Resource:         "nodes", Singular: "node", ShortNames: []string{"no"},
		HasStatus: true,
		new:       func() Object { return new(corev1.Node) },
	}
	IPAddresses = &Kind{
		GroupVersionKind: networkingv1.SchemeGroupVersion.WithKind("IPAddress"),
		Resource:         "ipaddresses", Singular: "ipaddress", ShortNames: []string{"ip"},
		new: func() Object { return new(networkingv1.IPAddress) },
	}
	ServiceCIDRs = &Kind{
		GroupVersionKind: networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR"),
		Resource:         "servicecidrs", Singular: "servicecidr",
		HasStatus: true,
		new:       func() Object { return new(networkingv1.ServiceCIDR) },
	}
)

// Kinds lists every Kind of the registry.
var Kinds = []*Kind{Services, Pods, EndpointSlices, Endpoints, Events, Namespaces, Nodes, IPAddresses, ServiceCIDRs, NodePorts}

// New returns an empty object of the Kind with its kind and apiVersion set.
func (k *Kind) New() Object {
	obj := k.new()
	obj.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
	return obj
}

// GroupResource names the Kind in API errors.
func (k *Kind) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: k.Group, Resource: k.Resource}
}

// KindOf returns the Kind of obj by its Go type, or nil.
func KindOf(obj runtime.Object) *Kind {
	switch obj.(type) {
	case *corev1.Service:
		return Services
	case *corev1.Pod:
		return Pods
	case *discoveryv1.EndpointSlice:
		return EndpointSlices
	case *corev1.Endpoints:
		return Endpoints
	case *corev1.Event:
		return Events
	case *corev1.Namespace:
		return Namespaces
	case *corev1.Node:
		return Nodes
	case *networkingv1.IPAddress:
		return IPAddresses
	case *networkingv1.ServiceCIDR:
		return ServiceCIDRs
	case *NodePort:
		return NodePorts
	}
	return nil
}

// KindFor returns the Kind of gvk, or nil.
func KindFor(gvk schema.GroupVersionKind) *Kind {
	for _, k := range Kinds {
		if k.GroupVersionKind == gvk {
			return k
		}
	}
	return nil
}

// A Key names one object of the registry.
type Key struct {
	Kind            *Kind
	Namespace, Name string // Namespace is "" where the Kind has none
}

// KeyOf returns the Key of obj.
func KeyOf(obj Object) Key {
	return Key{KindOf(obj), obj.GetNamespace(), obj.GetName()}
}

// String returns the key of the object in etcd.
func (k Key) String() string {
	if k.Kind.Namespaced {
		return Prefix + k.Kind.Resource + "/" + k.Namespace + "/" + k.Name
	}
	return Prefix + k.Kind.Resource + "/" + k.Name
}

// ParseKey is the reverse of Key.String. It reports false for a key that is
// not of the registry.
func ParseKey(s string) (Key, bool) {
	rest, ok := strings.CutPrefix(s, Prefix)
	if !ok {
		return Key{}, false
	}
	part := strings.Split(rest, "/")
	for _, k := range Kinds {
		switch {
		case k.Resource != part[0]:
		case k.Namespaced && len(part) == 3 && part[1] != "" && part[2] != "":
			return Key{k, part[1], part[2]}, true
		case !k.Namespaced && len(part) == 2 && part[1] != "":
			return Key{k, "", part[1]}, true
		}
	}
	return Key{}, false
}
