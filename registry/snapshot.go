package registry

import (
	"iter"
	"net/netip"
	"strings"

	"github.com/hashicorp/go-memdb"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// A Snapshot is the state of a Store at one revision. It never changes, and is
// safe for concurrent use. What it returns must not be mutated.
type Snapshot struct {
	db       *memdb.MemDB
	revision int64
	number   int64
	local    Local // what the Store knew of the machine
}

// Revision returns the etcd revision of the Snapshot: 0 before the first sync.
func (s *Snapshot) Revision() int64 { return s.revision }

// Number returns the number of the Commit that the Snapshot was taken after.
func (s *Snapshot) Number() int64 { return s.number }

// Get returns the object under key, or nil.
func (s *Snapshot) Get(key Key) Object {
	row := first(s.db.Txn(false), key.Kind.Resource, byID, objectID(key.Namespace, key.Name))
	obj, _ := row.(Object)
	return obj
}

// List returns the objects of a Kind ordered by namespace and name: those of
// one namespace, or of all when namespace is "".
func (s *Snapshot) List(k *Kind, namespace string) iter.Seq[Object] {
	prefix := ""
	if namespace != "" {
		prefix = namespace + "/"
	}
	return all[Object](s.db.Txn(false), k.Resource, byID+"_prefix", prefix)
}

// Service returns the Service, or nil.
func (s *Snapshot) Service(namespace, name string) *corev1.Service {
	svc, _ := s.Get(Key{Services, namespace, name}).(*corev1.Service)
	return svc
}

// Services returns the Services of a namespace, or of all when it is "".
func (s *Snapshot) Services(namespace string) iter.Seq[*corev1.Service] {
	return func(yield func(*corev1.Service) bool) {
		for obj := range s.List(Services, namespace) {
			if !yield(obj.(*corev1.Service)) {
				return
			}
		}
	}
}

// Pod returns the Pod, or nil.
func (s *Snapshot) Pod(namespace, name string) *corev1.Pod {
	pod, _ := s.Get(Key{Pods, namespace, name}).(*corev1.Pod)
	return pod
}

// HasNamespace reports whether the namespace exists.
func (s *Snapshot) HasNamespace(name string) bool {
	return s.Get(Key{Namespaces, "", name}) != nil
}

// ServiceByIP returns the Service with that ClusterIP, or nil.
func (s *Snapshot) ServiceByIP(ip netip.Addr) *corev1.Service {
	txn := s.db.Txn(false)
	anyPort := strings.TrimSuffix(netip.AddrPortFrom(ip, 0).String(), "0")
	for f := range all[*Frontend](txn, frontendTable, byID+"_prefix", anyPort) {
		if f.Reach == ByClusterIP {
			return s.Service(f.Service.Namespace, f.Service.Name)
		}
	}
	svc, _ := first(txn, Services.Resource, byIP, ip.String()).(*corev1.Service)
	return svc
}

// PodsByIP returns the Pods with that address: more than one when they share
// their host's.
func (s *Snapshot) PodsByIP(ip netip.Addr) iter.Seq[*corev1.Pod] {
	return all[*corev1.Pod](s.db.Txn(false), Pods.Resource, byIP, ip.String())
}

// EndpointSlices returns the slices of a Service: those written by hand and
// those derived from its selector or its Endpoints.
func (s *Snapshot) EndpointSlices(namespace, service string) iter.Seq[*discoveryv1.EndpointSlice] {
	return all[*discoveryv1.EndpointSlice](s.db.Txn(false), EndpointSlices.Resource, byService, objectID(namespace, service))
}

// EndpointSlicesByIP returns the slices that have an endpoint with that
// address.
func (s *Snapshot) EndpointSlicesByIP(ip netip.Addr) iter.Seq[*discoveryv1.EndpointSlice] {
	return all[*discoveryv1.EndpointSlice](s.db.Txn(false), EndpointSlices.Resource, byIP, ip.String())
}

// Frontend returns the Frontend under key, or nil.
func (s *Snapshot) Frontend(key FrontendKey) *Frontend {
	f, _ := first(s.db.Txn(false), frontendTable, byID+"_prefix", key.String()+" ").(*Frontend)
	return f
}

// Frontends returns every Frontend.
func (s *Snapshot) Frontends() iter.Seq[*Frontend] {
	return func(yield func(*Frontend) bool) {
		var last FrontendKey
		for f := range all[*Frontend](s.db.Txn(false), frontendTable, byID+"_prefix", "") {
			if f.FrontendKey != last && !yield(f) {
				return
			}
			last = f.FrontendKey
		}
	}
}

// ServiceFrontends returns the Frontends of one Service, but those whose
// address another one has.
func (s *Snapshot) ServiceFrontends(namespace, name string) iter.Seq[*Frontend] {
	return func(yield func(*Frontend) bool) {
		for f := range all[*Frontend](s.db.Txn(false), frontendTable, byService, objectID(namespace, name)) {
			if s.Frontend(f.FrontendKey) == f && !yield(f) {
				return
			}
		}
	}
}

// podsSelected returns the Pods of the namespace that selector matches. An
// empty selector matches none.
func podsSelected(txn *memdb.Txn, namespace string, selector map[string]string) iter.Seq[*corev1.Pod] {
	return func(yield func(*corev1.Pod) bool) {
		matches := labels.SelectorFromSet(selector)
		for key, value := range selector {
			for pod := range all[*corev1.Pod](txn, Pods.Resource, byLabel, pair(namespace, key, value)) {
				if matches.Matches(labels.Set(pod.Labels)) && !yield(pod) {
					return
				}
			}
			return // one pair is enough to find them all
		}
	}
}

// first returns the first row of an index, or nil.
func first(txn *memdb.Txn, table, index, value string) any {
	row, err := txn.First(table, index, value)
	if err != nil {
		panic("registry: " + err.Error())
	}
	return row
}

// all returns the rows of an index as a sequence.
func all[T any](txn *memdb.Txn, table, index, value string) iter.Seq[T] {
	return func(yield func(T) bool) {
		rows, err := txn.Get(table, index, value)
		if err != nil {
			panic("registry: " + err.Error())
		}
		for row := rows.Next(); row != nil; row = rows.Next() {
			if !yield(row.(T)) {
				return
			}
		}
	}
}
