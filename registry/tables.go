package registry

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/hashicorp/go-memdb"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Tables are named after the resource of their Kind; one more has the
// Frontends. Indexes are named for what they look up.
const (
	frontendTable = "frontends"

	byID       = "id"
	bySelector = "selector" // Services: one pair of the selector
	byLabel    = "label"    // Pods: each pair of the labels
	byService  = "service"  // EndpointSlices and Frontends: the Service they belong to
	byNode     = "node"     // Pods: the node they are on
	byIP       = "ip"       // Services without Frontends: each ClusterIP; Pods: each podIP; EndpointSlices: the address of each endpoint
)

func tables() *memdb.DBSchema {
	ts := map[string]*memdb.TableSchema{
		frontendTable: {Name: frontendTable, Indexes: indexes(
			&memdb.IndexSchema{Name: byID, Unique: true, Indexer: one((*Frontend).id)},
			&memdb.IndexSchema{Name: byService, Indexer: one(func(f *Frontend) string { return f.Service.String() })},
		)},
	}
	for _, k := range Kinds {
		id := &memdb.IndexSchema{Name: byID, Unique: true, Indexer: one(func(obj Object) string {
			return objectID(obj.GetNamespace(), obj.GetName())
		})}
		ts[k.Resource] = &memdb.TableSchema{Name: k.Resource, Indexes: indexes(id)}
	}
	add := func(k *Kind, ix *memdb.IndexSchema) {
		ix.AllowMissing = true
		ts[k.Resource].Indexes[ix.Name] = ix
	}
	add(Services, &memdb.IndexSchema{Name: bySelector, Indexer: one(selectorPair)})
	add(Services, &memdb.IndexSchema{Name: byIP, Indexer: many(unservedIPs)})
	add(Pods, &memdb.IndexSchema{Name: byLabel, Indexer: many(labelPairs)})
	add(Pods, &memdb.IndexSchema{Name: byNode, Indexer: one(func(p *corev1.Pod) string { return p.Spec.NodeName })})
	add(Pods, &memdb.IndexSchema{Name: byIP, Indexer: many(podIPs)})
	add(EndpointSlices, &memdb.IndexSchema{Name: byService, Indexer: one(func(s *discoveryv1.EndpointSlice) string {
		if s.Labels[discoveryv1.LabelServiceName] == "" {
			return ""
		}
		return objectID(s.Namespace, s.Labels[discoveryv1.LabelServiceName])
	})})
	add(EndpointSlices, &memdb.IndexSchema{Name: byIP, Indexer: many(endpointIPs)})
	return &memdb.DBSchema{Tables: ts}
}

func indexes(list ...*memdb.IndexSchema) map[string]*memdb.IndexSchema {
	m := make(map[string]*memdb.IndexSchema, len(list))
	for _, ix := range list {
		m[ix.Name] = ix
	}
	return m
}

// objectID is the primary key of an object in its table.
func objectID(namespace, name string) string { return namespace + "/" + name }

func kindOfTable(table string) *Kind {
	i := slices.IndexFunc(Kinds, func(k *Kind) bool { return k.Resource == table })
	return Kinds[i]
}

// pair writes a label as one index value.
func pair(namespace, key, value string) string { return namespace + "/" + key + "=" + value }

// selectorPair returns one pair of the selector of s, the same each time. A
// Pod that s selects has that pair among its labels, so that the Services to
// look at after a change of a Pod are found without going through all.
func selectorPair(s *corev1.Service) string {
	if !HasSelector(s) {
		return ""
	}
	key := slices.Min(slices.Collect(maps.Keys(s.Spec.Selector)))
	return pair(s.Namespace, key, s.Spec.Selector[key])
}

func labelPairs(p *corev1.Pod) []string {
	pairs := make([]string, 0, len(p.Labels))
	for key, value := range p.Labels {
		pairs = append(pairs, pair(p.Namespace, key, value))
	}
	return pairs
}

// serviceIPs returns the ClusterIPs of s in their canonical form: that is how
// they are looked up.
func serviceIPs(s *corev1.Service) []string {
	var ips []string
	for _, ip := range ClusterIPs(s) {
		if addr, ok := parseAddr(ip); ok {
			ips = append(ips, addr.String())
		}
	}
	return ips
}

// unservedIPs returns the ClusterIPs of s when it has no Frontends, by which it
// is found otherwise: an entry of an index is as large as half an object.
func unservedIPs(s *corev1.Service) []string {
	served := func(port corev1.ServicePort) bool { return notServed(s, port) == "" }
	if slices.ContainsFunc(s.Spec.Ports, served) {
		return nil
	}
	return serviceIPs(s)
}

func podIPs(p *corev1.Pod) []string {
	var ips []string
	for _, ip := range append([]corev1.PodIP{{IP: p.Status.PodIP}}, p.Status.PodIPs...) {
		if addr, ok := parseAddr(ip.IP); ok && !slices.Contains(ips, addr.String()) {
			ips = append(ips, addr.String())
		}
	}
	return ips
}

// endpointIPs returns the address of each endpoint of s: the first, which is
// all that counts.
func endpointIPs(s *discoveryv1.EndpointSlice) []string {
	ips := make([]string, 0, len(s.Endpoints))
	for i := range s.Endpoints {
		if len(s.Endpoints[i].Addresses) == 0 {
			continue
		}
		if addr, ok := parseAddr(s.Endpoints[i].Addresses[0]); ok {
			ips = append(ips, addr.String())
		}
	}
	return ips
}

// one indexes a row of type T by one value; none when it is "".
type oneIndexer[T any] func(T) string

func one[T any](value func(T) string) oneIndexer[T] { return value }

func (x oneIndexer[T]) FromObject(row any) (bool, []byte, error) {
	t, ok := row.(T)
	if !ok {
		return false, nil, fmt.Errorf("row is a %T", row)
	}
	v := x(t)
	return v != "", term(v), nil
}

func (oneIndexer[T]) FromArgs(args ...any) ([]byte, error)       { return fromArgs(args) }
func (oneIndexer[T]) PrefixFromArgs(args ...any) ([]byte, error) { return prefixFromArgs(args) }

// many indexes a row of type T by several values.
type manyIndexer[T any] func(T) []string

func many[T any](values func(T) []string) manyIndexer[T] { return values }

func (x manyIndexer[T]) FromObject(row any) (bool, [][]byte, error) {
	t, ok := row.(T)
	if !ok {
		return false, nil, fmt.Errorf("row is a %T", row)
	}
	var terms [][]byte
	for _, v := range x(t) {
		terms = append(terms, term(v))
	}
	return len(terms) > 0, terms, nil
}

func (manyIndexer[T]) FromArgs(args ...any) ([]byte, error) { return fromArgs(args) }

// term ends a value, so that none is the prefix of another.
func term(v string) []byte {
	b := make([]byte, len(v)+1)
	copy(b, v)
	return b
}

func fromArgs(args []any) ([]byte, error) {
	if len(args) != 1 {
		return nil, errors.New("one argument wanted")
	}
	return term(args[0].(string)), nil
}

func prefixFromArgs(args []any) ([]byte, error) {
	if len(args) != 1 {
		return nil, errors.New("one argument wanted")
	}
	return []byte(args[0].(string)), nil
}

// ClusterIPs returns the ClusterIPs of s: none when it is headless or has no
// address yet.
func ClusterIPs(s *corev1.Service) []string {
	if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	if len(s.Spec.ClusterIPs) == 0 {
		return []string{s.Spec.ClusterIP}
	}
	return s.Spec.ClusterIPs
}

// HasSelector reports whether the endpoints of s follow from its selector.
func HasSelector(s *corev1.Service) bool {
	return len(s.Spec.Selector) > 0 && s.Spec.Type != corev1.ServiceTypeExternalName
}

// ServiceName returns the namespaced name of s.
func ServiceName(s *corev1.Service) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
}

// parseAddr parses an address of a registry object into its canonical form.
func parseAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	return a.Unmap(), err == nil && a.Zone() == ""
}
