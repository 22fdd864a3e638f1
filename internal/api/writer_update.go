package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"usher/registry"
	"usher/registry/etcd"
)

// Update replaces an object, or with subresource "status" its status alone,
// and returns it as stored. A resourceVersion in obj must be the present one.
func (w *Writer) Update(ctx context.Context, obj registry.Object, subresource string) (registry.Object, error) {
	key := registry.KeyOf(obj)
	switch revision, err := strconv.ParseUint(cmp.Or(obj.GetResourceVersion(), "0"), 10, 64); {
	case err != nil:
		return nil, invalid(key, field.Invalid(field.NewPath("metadata", "resourceVersion"), obj.GetResourceVersion(), err.Error()))
	case revision == 0:
		obj.SetResourceVersion("") // any
	}
	for range attempts {
		out, err := w.updateOnce(ctx, key, obj, subresource)
		if !errors.As(err, new(*etcd.ConflictError)) || obj.GetResourceVersion() != "" {
			return out, statusError(err, key)
		}
	}
	return nil, statusError(&etcd.ConflictError{Key: key}, key)
}

func (w *Writer) updateOnce(ctx context.Context, key registry.Key, want registry.Object, subresource string) (registry.Object, error) {
	old, revision, err := w.read(ctx, key)
	if err != nil {
		return nil, err
	}
	if rv := want.GetResourceVersion(); rv != "" && rv != old.GetResourceVersion() {
		return nil, &etcd.ConflictError{Key: key, Exists: true, Current: old}
	}
	if uid := want.GetUID(); uid != "" && uid != old.GetUID() {
		return nil, apierrors.NewConflict(key.Kind.GroupResource(), key.Name, fmt.Errorf(
			"Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, old.GetUID()))
	}
	obj := want.DeepCopyObject().(registry.Object)
	var errs field.ErrorList
	if subresource == "status" {
		obj = withStatus(old.DeepCopyObject().(registry.Object), obj)
		registry.SetDefaults(obj)
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
	if apiequality.Semantic.DeepEqual(obj, old) {
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
	obj.SetManagedFields(nil)
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
	obj.SetResourceVersion(old.GetResourceVersion())
	return apiequality.Semantic.DeepEqual(obj, old)
}
