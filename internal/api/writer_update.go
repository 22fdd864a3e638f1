package api

import (
	"context"
	"errors"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"usher/registry"
	"usher/registry/etcd"
)

// Update replaces an object, or with subresource "status" its status alone,
// and returns it as stored. A resourceVersion in obj must be the present one.
func (w *Writer) Update(ctx context.Context, obj registry.Object, subresource string) (registry.Object, error) {
	return w.Change(ctx, registry.KeyOf(obj), subresource, func(old registry.Object) (registry.Object, error) {
		if subresource == "" {
			return obj.DeepCopyObject().(registry.Object), nil
		}
		out := withStatus(old.DeepCopyObject().(registry.Object), obj)
		out.SetUID(obj.GetUID())
		out.SetResourceVersion(obj.GetResourceVersion())
		return out, nil
	})
}

// Change replaces an object, or with subresource "status" its status and what
// people write in its metadata, by what change makes of it, and returns it as
// stored. change must leave the old object as it is; it is called again when
// somebody else was faster. A resourceVersion that it sets must be the present
// one.
func (w *Writer) Change(ctx context.Context, key registry.Key, subresource string, change func(old registry.Object) (registry.Object, error)) (registry.Object, error) {
	owned := func(old registry.Object) (registry.Object, error) {
		obj, err := change(old)
		if err != nil {
			return nil, err
		}
		registry.SetDefaults(obj)
		return obj, w.own(old, obj, subresource)
	}
	return w.retry(ctx, key, subresource, owned)
}

// retry makes a change until nobody else was faster. change settles who owns
// the fields, too.
func (w *Writer) retry(ctx context.Context, key registry.Key, subresource string, change func(old registry.Object) (registry.Object, error)) (registry.Object, error) {
	for range attempts {
		out, err := w.changeOnce(ctx, key, subresource, change)
		if !errors.As(err, new(*etcd.ConflictError)) {
			return out, statusError(err, key)
		}
	}
	return nil, statusError(&etcd.ConflictError{Key: key}, key)
}

// Apply merges an applied configuration into an object, or into its status,
// and returns it as stored, and whether it was created by that (server-side
// apply, KEP-555). The Writer's manager becomes the owner of what the
// configuration sets, and loses what it set before and leaves out now. Unless
// force is set, a field that somebody else owns with another value is a
// conflict, 409.
func (w *Writer) Apply(ctx context.Context, key registry.Key, subresource string, applied *unstructured.Unstructured, force bool) (obj registry.Object, created bool, err error) {
	for range attempts {
		obj, err = w.retry(ctx, key, subresource, func(old registry.Object) (registry.Object, error) {
			return w.merge(old, applied, subresource, force)
		})
		if !apierrors.IsNotFound(err) || subresource != "" || applied.GetUID() != "" {
			return obj, false, err
		}
		if obj, err = w.merge(key.Kind.New(), applied, "", force); err != nil {
			return nil, false, err
		}
		obj, err = w.create(ctx, obj)
		if !apierrors.IsAlreadyExists(err) {
			return obj, err == nil, err
		}
	}
	return nil, false, err
}

// checkVersion refuses to replace another state of an object, or another
// object, than the one that want is about.
func checkVersion(key registry.Key, want, old registry.Object) error {
	if rv := want.GetResourceVersion(); rv != "" && rv != "0" && rv != old.GetResourceVersion() {
		if _, err := strconv.ParseUint(rv, 10, 64); err != nil {
			return invalid(key, field.Invalid(field.NewPath("metadata", "resourceVersion"), rv, err.Error()))
		}
		return statusError(&etcd.ConflictError{Key: key}, key)
	}
	if uid := want.GetUID(); uid != "" {
		return checkPreconditions(key, old, &metav1.Preconditions{UID: &uid})
	}
	return nil
}

func (w *Writer) changeOnce(ctx context.Context, key registry.Key, subresource string, change func(old registry.Object) (registry.Object, error)) (registry.Object, error) {
	old, revision, err := w.read(ctx, key)
	if err != nil {
		return nil, err
	}
	obj, err := change(old)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(key, obj, old); err != nil {
		return nil, err
	}
	var errs field.ErrorList
	if subresource == "status" {
		obj = statusUpdate(obj, old)
	} else {
		errs = w.prepareUpdate(obj, old)
	}
	obj.SetResourceVersion(old.GetResourceVersion())
	if len(errs) == 0 {
		errs = append(registry.Validate(obj), registry.ValidateUpdate(obj, old)...)
	}
	if len(errs) > 0 {
		return nil, invalid(key, errs...)
	}
	if ns, ok := obj.(*corev1.Namespace); finalized(obj, old) && !(ok && w.inUse(ns.Name)) {
		removed, err := w.remove(ctx, obj, revision)
		if err != nil {
			return nil, err
		}
		return removed, w.finishNamespace(ctx, key.Namespace)
	}
	if !changed(obj, old) {
		return old, w.applied(ctx, revision)
	}
	return w.replace(ctx, obj, old, revision)
}

// replace writes obj in the place of old, with the claims that come and go.
func (w *Writer) replace(ctx context.Context, obj, old registry.Object, revision int64) (registry.Object, error) {
	key := registry.KeyOf(obj)
	lease, err := w.leaseFor(ctx, obj)
	if err != nil {
		return nil, err
	}
	claims, err := w.changeClaims(ctx, obj, old, lease)
	if err != nil {
		return nil, err
	}
	for {
		claimed, err := claims.next()
		if err != nil {
			return nil, err
		}
		ops := append([]etcd.Op{{Key: key, Object: obj, Revision: revision, Lease: lease}}, claimed...)
		now, err := w.commit(ctx, ops...)
		if err == nil {
			claims.allocated()
			return stored(obj, now), nil
		}
		var conflict *etcd.ConflictError
		if !errors.As(err, &conflict) || !claims.taken(conflict.Key) {
			return nil, err
		}
	}
}

// prepareUpdate completes obj, which is to replace old: what the API alone
// sets stays, and the status is not touched.
func (w *Writer) prepareUpdate(obj, old registry.Object) field.ErrorList {
	obj.SetUID(old.GetUID())
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	obj.SetGeneration(old.GetGeneration())
	obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
	obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	obj.SetGenerateName(old.GetGenerateName())
	obj.SetSelfLink("")
	if registry.KindOf(obj).HasStatus {
		withStatus(obj, old)
	}
	registry.SetDefaults(obj)
	var errs field.ErrorList
	if svc, ok := obj.(*corev1.Service); ok {
		errs = registry.PrepareService(svc, old.(*corev1.Service), w.families)
	}
	if !sameSpec(obj, old) {
		obj.SetGeneration(old.GetGeneration() + 1)
	}
	return errs
}

// statusUpdate returns old with the status of obj, and with what people write in
// the metadata: Kubernetes takes that too, but for the owners of a Pod.
func statusUpdate(obj, old registry.Object) registry.Object {
	out := withStatus(old.DeepCopyObject().(registry.Object), obj)
	out.SetLabels(obj.GetLabels())
	out.SetAnnotations(obj.GetAnnotations())
	out.SetFinalizers(obj.GetFinalizers())
	if registry.KindOf(obj) != registry.Pods {
		out.SetOwnerReferences(obj.GetOwnerReferences())
	}
	out.SetManagedFields(obj.GetManagedFields())
	registry.SetDefaults(out)
	return out
}

// withStatus gives obj the status of from and returns it.
func withStatus(obj, from registry.Object) registry.Object {
	switch obj := obj.(type) {
	case *corev1.Service:
		from.(*corev1.Service).Status.DeepCopyInto(&obj.Status)
	case *corev1.Pod:
		from.(*corev1.Pod).Status.DeepCopyInto(&obj.Status)
	case *corev1.Namespace:
		from.(*corev1.Namespace).Status.DeepCopyInto(&obj.Status)
	case *corev1.Node:
		from.(*corev1.Node).Status.DeepCopyInto(&obj.Status)
	case *networkingv1.ServiceCIDR:
		from.(*networkingv1.ServiceCIDR).Status.DeepCopyInto(&obj.Status)
	}
	return obj
}

// sameSpec reports whether obj and old differ in metadata and status at most.
func sameSpec(obj, old registry.Object) bool {
	obj = obj.DeepCopyObject().(registry.Object)
	old = old.DeepCopyObject().(registry.Object)
	if registry.KindOf(obj).HasStatus {
		withStatus(obj, old)
	}
	switch obj := obj.(type) {
	case *corev1.Service:
		return apiequality.Semantic.DeepEqual(obj.Spec, old.(*corev1.Service).Spec)
	case *corev1.Pod:
		return apiequality.Semantic.DeepEqual(obj.Spec, old.(*corev1.Pod).Spec)
	}
	obj.SetLabels(old.GetLabels())
	obj.SetAnnotations(old.GetAnnotations())
	obj.SetOwnerReferences(old.GetOwnerReferences())
	obj.SetFinalizers(old.GetFinalizers())
	obj.SetManagedFields(old.GetManagedFields())
	obj.SetResourceVersion(old.GetResourceVersion())
	return apiequality.Semantic.DeepEqual(obj, old)
}
