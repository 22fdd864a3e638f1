package registry

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxShared bounds how many values of a sort a Pool remembers. When there are
// more it begins anew: what is shared by then stays so.
const maxShared = 4096

// maxSharedKey is how long, in bytes, what says a value may be to be remembered:
// who says more says it alone.
const maxSharedKey = 4 << 10

// A Pool lets objects that say the same have one copy of it. Labels, words like
// "ClusterIP" and the accounts of who has set which field are the same in
// thousands of Services and claims, and a copy of each would be as large as an
// entry of an index. It is for what goes into a Store: that never changes, so
// nobody sees the difference. A Pool is not safe for concurrent use.
type Pool struct {
	words  map[string]string
	labels map[string]map[string]string
	fields map[string]*metav1.FieldsV1
}

// NewPool returns a Pool that knows nothing yet.
func NewPool() *Pool {
	return &Pool{make(map[string]string), make(map[string]map[string]string), make(map[string]*metav1.FieldsV1)}
}

// Share makes obj, which nobody else has yet, share what it says with those
// before it.
func (p *Pool) Share(obj Object) {
	if labels := obj.GetLabels(); len(labels) > 0 {
		obj.SetLabels(remember(p.labels, textOf(labels), labels))
	}
	obj.SetNamespace(p.word(obj.GetNamespace()))
	managed := obj.GetManagedFields()
	for i := range managed {
		m := &managed[i]
		m.Manager, m.APIVersion, m.FieldsType, m.Subresource = p.word(m.Manager), p.word(m.APIVersion), p.word(m.FieldsType), p.word(m.Subresource)
		m.Operation = shared(p, m.Operation)
		if m.FieldsV1 != nil {
			m.FieldsV1 = remember(p.fields, m.FieldsV1.GetRawString(), m.FieldsV1)
		}
	}
	switch obj := obj.(type) {
	case *corev1.Service:
		obj.Kind, obj.APIVersion = p.word(obj.Kind), p.word(obj.APIVersion)
		p.shareSpec(&obj.Spec)
	case *networkingv1.IPAddress:
		obj.Kind, obj.APIVersion = p.word(obj.Kind), p.word(obj.APIVersion)
		if ref := obj.Spec.ParentRef; ref != nil {
			ref.Group, ref.Resource, ref.Namespace = p.word(ref.Group), p.word(ref.Resource), p.word(ref.Namespace)
		}
	}
}

// shareSpec is Share for what a Service says.
func (p *Pool) shareSpec(spec *corev1.ServiceSpec) {
	spec.Type, spec.SessionAffinity = shared(p, spec.Type), shared(p, spec.SessionAffinity)
	for i := range spec.Ports {
		spec.Ports[i].Protocol = shared(p, spec.Ports[i].Protocol)
	}
	for i := range spec.IPFamilies {
		spec.IPFamilies[i] = shared(p, spec.IPFamilies[i])
	}
	if len(spec.ClusterIPs) > 0 && spec.ClusterIPs[0] == spec.ClusterIP {
		spec.ClusterIPs[0] = spec.ClusterIP
	}
	if f := spec.IPFamilyPolicy; f != nil {
		*f = shared(p, *f)
	}
	if t := spec.InternalTrafficPolicy; t != nil {
		*t = shared(p, *t)
	}
}

// word returns the copy of a word that is in use.
func (p *Pool) word(s string) string { return remember(p.words, s, s) }

// shared is word for what has a type of its own.
func shared[T ~string](p *Pool, s T) T { return T(p.word(string(s))) }

// remember returns what is known under key, which is value at first.
func remember[T any](known map[string]T, key string, value T) T {
	if was, ok := known[key]; ok {
		return was
	}
	if len(key) > maxSharedKey {
		return value
	}
	if len(known) >= maxShared {
		clear(known)
	}
	known[key] = value
	return value
}

// textOf writes labels in one way. No key or value of a label has these bytes.
func textOf(labels map[string]string) string {
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		text.WriteString(key + "\x00" + labels[key] + "\x01")
	}
	return text.String()
}
