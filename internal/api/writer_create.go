package api

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"usher/registry"
	"usher/registry/etcd"
)

// nameAttempts bounds how often a name is made from generateName: with the
// suffixes there are, a clash is rare, and eight in a row are none by chance.
const nameAttempts = 8

// Create writes a new object and returns it as stored. It takes over obj.
func (w *Writer) Create(ctx context.Context, obj registry.Object) (registry.Object, error) {
	if obj.GetResourceVersion() != "" {
		return nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	registry.SetDefaults(obj)
	if err := w.own(registry.KindOf(obj).New(), obj, ""); err != nil {
		return nil, err
	}
	base := obj.GetGenerateName()
	if base == "" {
		return w.create(ctx, obj)
	}
	attempts := 1
	if obj.GetName() == "" {
		attempts = nameAttempts
	}
	for attempt := 1; ; attempt++ {
		named := obj.DeepCopyObject().(registry.Object)
		if named.GetName() == "" {
			named.SetName(w.generateName(base))
		}
		out, err := w.create(ctx, named)
		switch {
		case !apierrors.IsAlreadyExists(err):
			return out, err
		case attempt == attempts:
			return nil, apierrors.NewGenerateNameConflict(registry.KindOf(obj).GroupResource(), named.GetName(), 1)
		}
	}
}

// generatedName adds a random suffix to base, and cuts it so that a label
// holds both.
func generatedName(base string) string {
	const suffix, longest = 5, 63
	return base[:min(len(base), longest-suffix)] + rand.String(suffix)
}

// create writes a new object that has its name.
func (w *Writer) create(ctx context.Context, obj registry.Object) (registry.Object, error) {
	prepareCreate(obj)
	registry.SetDefaults(obj)
	errs := field.ErrorList(nil)
	if svc, ok := obj.(*corev1.Service); ok {
		errs = registry.PrepareService(svc, nil, w.families)
	}
	if len(errs) == 0 {
		errs = registry.Validate(obj)
	}
	key := registry.KeyOf(obj)
	if len(errs) > 0 {
		return nil, invalid(key, errs...)
	}
	if was := w.Store.Snapshot().Get(key); was != nil && registry.IsDerived(was) {
		return nil, apierrors.NewAlreadyExists(key.Kind.GroupResource(), key.Name)
	}
	if ns := w.Store.Snapshot().Get(registry.Key{Kind: registry.Namespaces, Name: key.Namespace}); ns != nil && ns.GetDeletionTimestamp() != nil {
		return nil, errTerminating(key)
	}
	return w.insert(ctx, obj)
}

// insert allocates what obj needs and writes it, in one transaction. That makes
// the namespace of obj too, on first use.
func (w *Writer) insert(ctx context.Context, obj registry.Object) (registry.Object, error) {
	key := registry.KeyOf(obj)
	lease, err := w.leaseFor(ctx, obj)
	if err != nil {
		return nil, err
	}
	claims := w.newClaims(obj, lease)
	namespace := w.missingNamespace(key.Namespace)
	for {
		claimed, err := claims.next()
		if err != nil {
			return nil, err
		}
		ops := append([]etcd.Op{{Key: key, Object: obj, Lease: lease}}, claimed...)
		if namespace != nil {
			ops = append(ops, etcd.Op{Key: registry.KeyOf(namespace), Object: namespace})
		}
		revision, err := w.commit(ctx, ops...)
		var conflict *etcd.ConflictError
		switch {
		case err == nil:
			claims.allocated()
			return stored(obj, revision), nil
		case !errors.As(err, &conflict):
			return nil, statusError(err, key)
		case conflict.Key == key:
			return nil, apierrors.NewAlreadyExists(key.Kind.GroupResource(), key.Name)
		case conflict.Key.Kind == registry.Namespaces:
			namespace = nil // somebody else was faster
		case !claims.taken(conflict.Key):
			return nil, statusError(err, key)
		}
	}
}

// missingNamespace returns the namespace to make, or nil when it exists: there
// is nobody on a laptop who would have made it before.
func (w *Writer) missingNamespace(name string) registry.Object {
	if name == "" || w.Store.Snapshot().HasNamespace(name) {
		return nil
	}
	ns := registry.Namespaces.New().(*corev1.Namespace)
	ns.Name = name
	prepareCreate(ns)
	registry.SetDefaults(ns)
	return ns
}

// prepareCreate sets what the API alone sets on a new object.
func prepareCreate(obj registry.Object) {
	obj.SetUID(types.UID(uuid.NewString()))
	obj.SetCreationTimestamp(metav1.Time{Time: time.Now().UTC().Truncate(time.Second)})
	obj.SetGeneration(1)
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
	switch obj := obj.(type) {
	case *corev1.Service:
		obj.Status = corev1.ServiceStatus{}
	case *corev1.Namespace:
		obj.Status = corev1.NamespaceStatus{}
	case *networkingv1.ServiceCIDR:
		obj.Status = readyCIDR()
	}
	// The status of a Pod or a Node is taken: there is no kubelet that would
	// write it later.
}
