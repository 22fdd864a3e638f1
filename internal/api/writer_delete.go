package api

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
	"usher/registry/etcd"
)

// protectedNamespaces cannot be deleted.
var protectedNamespaces = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic}

// Delete removes an object. It returns the object, and whether it is gone: a
// Pod under a lease terminates first, unless the grace period is 0, and what
// has finalizers stays until they have been removed. There is no garbage
// collector, so the propagation policy makes no difference: what follows from
// an object goes with it.
func (w *Writer) Delete(ctx context.Context, key registry.Key, opts metav1.DeleteOptions) (obj registry.Object, gone bool, err error) {
	obj, gone, err = w.delete(ctx, key, opts)
	if gone {
		err = w.finishNamespace(ctx, key.Namespace)
	}
	return obj, gone, err
}

// delete is Delete that leaves alone the Namespace of what it removes.
func (w *Writer) delete(ctx context.Context, key registry.Key, opts metav1.DeleteOptions) (obj registry.Object, gone bool, err error) {
	for range attempts {
		obj, gone, err = w.deleteOnce(ctx, key, opts)
		if !errors.As(err, new(*etcd.ConflictError)) {
			break
		}
	}
	return obj, gone, statusError(err, key)
}

func (w *Writer) deleteOnce(ctx context.Context, key registry.Key, opts metav1.DeleteOptions) (registry.Object, bool, error) {
	obj, revision, err := w.read(ctx, key)
	if err != nil {
		return nil, false, err
	}
	if err := checkPreconditions(key, obj, opts.Preconditions); err != nil {
		return nil, false, err
	}
	switch obj := obj.(type) {
	case *corev1.Pod:
		if grace := gracePeriod(obj, opts); grace > 0 {
			terminating, err := w.terminate(ctx, obj, revision, grace)
			return terminating, false, err
		}
	case *corev1.Namespace:
		if slices.Contains(protectedNamespaces, key.Name) {
			return nil, false, apierrors.NewForbidden(key.Kind.GroupResource(), key.Name, errors.New("this namespace may not be deleted"))
		}
		return w.deleteNamespace(ctx, obj, revision)
	case *networkingv1.ServiceCIDR:
		if w.needed(obj) {
			retired, err := w.retire(ctx, obj, revision)
			return retired, false, err
		}
	case *networkingv1.IPAddress, *registry.NodePort:
		if err := w.checkUnheld(ctx, obj); err != nil {
			return nil, false, err
		}
	}
	if len(obj.GetFinalizers()) > 0 {
		terminating, err := w.markDeleted(ctx, obj, revision)
		return terminating, false, err
	}
	obj, err = w.remove(ctx, obj, revision)
	return obj, err == nil, err
}

// deleteNamespace deletes a Namespace and what is in it. It is marked first, so
// that nothing new comes in meanwhile.
func (w *Writer) deleteNamespace(ctx context.Context, ns *corev1.Namespace, revision int64) (registry.Object, bool, error) {
	marked, err := w.markDeleted(ctx, ns, revision)
	if err == nil {
		err = w.empty(ctx, ns.Name)
	}
	if err != nil {
		return nil, false, err
	}
	if len(ns.Finalizers) > 0 || !w.dryRun && w.inUse(ns.Name) {
		return marked, false, nil
	}
	if revision, err = revisionOf(marked); err != nil {
		return nil, false, err
	}
	removed, err := w.remove(ctx, marked, revision)
	var conflict *etcd.ConflictError
	if errors.As(err, &conflict) && !conflict.Exists {
		return marked, true, nil // whoever deleted the last object in it was faster
	}
	return removed, err == nil, err
}

// remove removes obj, which is as it was at revision, and what it has claimed.
func (w *Writer) remove(ctx context.Context, obj registry.Object, revision int64) (registry.Object, error) {
	released, err := w.releases(ctx, obj)
	if err != nil {
		return nil, err
	}
	revision, err = w.commit(ctx, append([]etcd.Op{{Key: registry.KeyOf(obj), Revision: revision}}, released...)...)
	if err != nil {
		return nil, err
	}
	return stored(obj, revision), nil
}

// markDeleted says of obj that it is to go: at once, were it not for its
// finalizers or, in a Namespace, for what is still in it.
func (w *Writer) markDeleted(ctx context.Context, obj registry.Object, revision int64) (registry.Object, error) {
	if ns, ok := obj.(*corev1.Namespace); ok {
		ns.Status.Phase = corev1.NamespaceTerminating
	}
	return w.terminate(ctx, obj, revision, 0)
}

// terminate marks obj as terminating, with a grace period in seconds. Of a Pod
// that means that it gets no new connections, and whoever runs it ends it. A
// shorter grace period shortens one already running.
func (w *Writer) terminate(ctx context.Context, obj registry.Object, revision, grace int64) (registry.Object, error) {
	if was := obj.GetDeletionGracePeriodSeconds(); was != nil && *was <= grace {
		return obj, nil
	}
	obj.SetDeletionTimestamp(&metav1.Time{Time: time.Now().Add(time.Duration(grace) * time.Second).UTC().Truncate(time.Second)})
	obj.SetDeletionGracePeriodSeconds(&grace)
	obj.SetGeneration(obj.GetGeneration() + 1)
	lease, err := leaseOf(obj)
	if err != nil {
		return nil, err
	}
	revision, err = w.commit(ctx, etcd.Op{Key: registry.KeyOf(obj), Object: obj, Revision: revision, Lease: lease})
	if err != nil {
		return nil, err
	}
	return stored(obj, revision), nil
}

// deletesAtOnce reports whether nothing but finalizers keeps obj, which is
// being deleted: no process has time left to end.
func deletesAtOnce(obj registry.Object) bool {
	grace := obj.GetDeletionGracePeriodSeconds()
	return grace == nil || *grace == 0
}

// finalized reports whether obj, which was old, has lost the last finalizer that
// kept it.
func finalized(obj, old registry.Object) bool {
	return old.GetDeletionTimestamp() != nil && deletesAtOnce(old) && len(old.GetFinalizers()) > 0 && len(obj.GetFinalizers()) == 0
}

// gracePeriod returns the seconds that pod has to terminate. There is nothing
// to wait for when no process of ours is behind it.
func gracePeriod(pod *corev1.Pod, opts metav1.DeleteOptions) int64 {
	if pod.Annotations[registry.AnnotationLease] == "" {
		return 0
	}
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if opts.GracePeriodSeconds != nil {
		grace = *opts.GracePeriodSeconds
	} else if pod.Spec.TerminationGracePeriodSeconds != nil {
		grace = *pod.Spec.TerminationGracePeriodSeconds
	}
	if grace < 0 { // as Kubernetes takes it
		return 1
	}
	return grace
}

func checkPreconditions(key registry.Key, obj registry.Object, p *metav1.Preconditions) error {
	if p == nil {
		return nil
	}
	if p.UID != nil && *p.UID != obj.GetUID() {
		return apierrors.NewConflict(key.Kind.GroupResource(), key.Name, fmt.Errorf(
			"Precondition failed: UID in precondition: %v, UID in object meta: %v", *p.UID, obj.GetUID()))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != obj.GetResourceVersion() {
		return apierrors.NewConflict(key.Kind.GroupResource(), key.Name, fmt.Errorf(
			"Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v",
			*p.ResourceVersion, obj.GetResourceVersion()))
	}
	return nil
}

// inUse reports whether there is something in a namespace.
func (w *Writer) inUse(namespace string) bool {
	for range w.contents(namespace) {
		return true
	}
	return false
}

// contents returns what is in a namespace, but for what follows from it.
func (w *Writer) contents(namespace string) iter.Seq[registry.Object] {
	return func(yield func(registry.Object) bool) {
		for _, k := range registry.Kinds {
			if !k.Namespaced {
				continue
			}
			for obj := range w.Store.Snapshot().List(k, namespace) {
				if !registry.IsDerived(obj) && !yield(obj) {
					return
				}
			}
		}
	}
}

// finishNamespace removes a Namespace that was waiting for the last object in
// it, which is gone. What went without a write, with its lease, Repair finds.
func (w *Writer) finishNamespace(ctx context.Context, name string) error {
	key := registry.Key{Kind: registry.Namespaces, Name: name}
	ns := w.Store.Snapshot().Get(key)
	if w.dryRun || name == "" || ns == nil || ns.GetDeletionTimestamp() == nil || w.inUse(name) {
		return nil
	}
	if _, _, err := w.Delete(ctx, key, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
		return err
	}
	return nil
}

// errTerminating refuses a new object in a namespace that is being deleted.
func errTerminating(key registry.Key) error {
	err := apierrors.NewForbidden(key.Kind.GroupResource(), key.Name,
		fmt.Errorf("unable to create new content in namespace %s because it is being terminated", key.Namespace))
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{
		Type: corev1.NamespaceTerminatingCause, Message: fmt.Sprintf("namespace %s is being terminated", key.Namespace), Field: "metadata.namespace",
	}}
	return err
}

// empty deletes everything in a namespace.
func (w *Writer) empty(ctx context.Context, namespace string) error {
	for obj := range w.contents(namespace) {
		if _, _, err := w.delete(ctx, registry.KeyOf(obj), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
