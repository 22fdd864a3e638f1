package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"usher/registry"
	"usher/registry/etcd"
)

// WriterOptions are what a Writer works with.
type WriterOptions struct {
	Client *etcd.Client
	Store  *registry.Store

	// ServiceCIDRs are the ranges of ClusterIPs: one for each IP family, the
	// primary one first.
	ServiceCIDRs []registry.IPRange

	// NodePorts is the range of node ports.
	NodePorts registry.PortRange

	// Pool has the addresses of load balancers; the zero value has none.
	Pool registry.IPRange

	// Applied waits until this node serves the registry's state at revision.
	Applied func(ctx context.Context, revision int64) error
}

// A Writer is the only writer of the registry. It puts every request through
// defaulting, validation and allocation, and answers once this node serves the
// result. Its errors are API Status errors in Kubernetes' words. It is safe
// for concurrent use.
type Writer struct {
	WriterOptions
	families []corev1.IPFamily // of the ServiceCIDRs
	events   *eventLease
	dryRun   bool

	allocations *allocations

	generateName func(base string) string // generatedName but in tests
}

// NewWriter returns a Writer.
func NewWriter(o WriterOptions) *Writer {
	w := &Writer{WriterOptions: o, events: new(eventLease), allocations: newAllocations(), generateName: generatedName}
	for _, r := range o.ServiceCIDRs {
		family := corev1.IPv6Protocol
		if r.Prefix().Addr().Is4() {
			family = corev1.IPv4Protocol
		}
		w.families = append(w.families, family)
	}
	return w
}

// DryRun returns a Writer that does everything but write.
func (w *Writer) DryRun() *Writer {
	dry := *w
	dry.dryRun = true
	return &dry
}

// attempts bounds how often a write is tried anew after somebody else changed
// what it was based on.
const attempts = 16

// answerTimeout bounds the wait for this node to serve a write. The write has
// been made by then: the client is told so rather than kept waiting.
const answerTimeout = 10 * time.Second

// commit writes ops in one transaction and waits until this node serves them.
func (w *Writer) commit(ctx context.Context, ops ...etcd.Op) (int64, error) {
	if w.dryRun {
		return 0, w.rehearse(ctx, ops)
	}
	revision, err := w.Client.Commit(ctx, ops...)
	if errors.Is(err, etcd.ErrLeaseNotFound) && ops[0].Key.Kind == registry.Events {
		w.events.drop() // the next Event gets a new one
	}
	if err != nil {
		return 0, err
	}
	return revision, w.applied(ctx, revision)
}

// rehearse reports what would keep ops from being written: an object that is
// to be created exists. Those to be replaced have just been read.
func (w *Writer) rehearse(ctx context.Context, ops []etcd.Op) error {
	for _, op := range ops {
		if op.Revision != 0 {
			continue
		}
		present, err := w.Client.Get(ctx, op.Key)
		switch {
		case err == nil:
			return &etcd.ConflictError{Key: op.Key, Exists: true, Current: present}
		case !errors.Is(err, etcd.ErrNotFound):
			return err
		}
	}
	return nil
}

func (w *Writer) applied(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if err := w.Applied(ctx, revision); err != nil {
		return apierrors.NewTimeoutError(fmt.Sprintf(
			"the write was made at revision %d, and this node does not serve it yet: %v", revision, err), 1)
	}
	return nil
}

// stored returns obj as it is after the write at revision, or after none at 0.
func stored(obj registry.Object, revision int64) registry.Object {
	if revision == 0 {
		return obj
	}
	obj.SetResourceVersion(strconv.FormatInt(revision, 10))
	return obj
}

// read returns the present state of an object and its revision in etcd.
func (w *Writer) read(ctx context.Context, key registry.Key) (registry.Object, int64, error) {
	if obj := w.Store.Snapshot().Get(key); obj != nil && registry.IsDerived(obj) {
		return nil, 0, apierrors.NewForbidden(key.Kind.GroupResource(), key.Name,
			errors.New("it follows from the Pods or the Endpoints of its Service and cannot be written"))
	}
	obj, err := w.Client.Get(ctx, key)
	if err != nil {
		return nil, 0, statusError(err, key)
	}
	revision, err := strconv.ParseInt(obj.GetResourceVersion(), 10, 64)
	if err != nil {
		return nil, 0, apierrors.NewInternalError(err)
	}
	return obj, revision, nil
}

// statusError puts an error of the registry's client into Kubernetes' words.
func statusError(err error, key registry.Key) error {
	resource := key.Kind.GroupResource()
	var conflict *etcd.ConflictError
	switch {
	case err == nil:
		return nil
	case errors.As(err, new(apierrors.APIStatus)):
		return err
	case errors.Is(err, etcd.ErrNotFound):
		return apierrors.NewNotFound(resource, key.Name)
	case errors.As(err, &conflict):
		return apierrors.NewConflict(resource, key.Name, errors.New(
			"the object has been modified; please apply your changes to the latest version and try again"))
	case errors.Is(err, etcd.ErrLeaseNotFound):
		return invalid(key, field.Invalid(field.NewPath("metadata", "annotations").Key(registry.AnnotationLease), "", "the lease has ended"))
	case errors.Is(err, etcd.ErrTooLarge):
		return apierrors.NewRequestEntityTooLargeError(err.Error())
	case errors.Is(err, etcd.ErrUnavailable):
		return apierrors.NewServiceUnavailable(err.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return apierrors.NewTimeoutError(err.Error(), 1)
	}
	return apierrors.NewInternalError(err)
}

func invalid(key registry.Key, errs ...*field.Error) error {
	return apierrors.NewInvalid(key.Kind.GroupVersionKind.GroupKind(), key.Name, errs)
}

// leaseFor returns the lease to write obj under, or 0. Events have one without
// asking for it.
func (w *Writer) leaseFor(ctx context.Context, obj registry.Object) (etcd.LeaseID, error) {
	lease, err := leaseOf(obj)
	if err != nil || lease != 0 || w.dryRun || registry.KindOf(obj) != registry.Events {
		return lease, err
	}
	lease, err = w.events.get(ctx, w.Client)
	return lease, statusError(err, registry.KeyOf(obj))
}

// leaseOf returns the lease that obj names, or 0.
func leaseOf(obj registry.Object) (etcd.LeaseID, error) {
	name, ok := obj.GetAnnotations()[registry.AnnotationLease]
	if !ok {
		return 0, nil
	}
	id, err := etcd.ParseLease(name)
	if err != nil {
		return 0, invalid(registry.KeyOf(obj), field.Invalid(
			field.NewPath("metadata", "annotations").Key(registry.AnnotationLease), name, err.Error()))
	}
	return id, nil
}

// protectedNamespaces cannot be deleted.
var protectedNamespaces = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic}

// Delete removes an object. It returns the object, and whether it is gone: a
// Pod under a lease terminates first, unless the grace period is 0.
func (w *Writer) Delete(ctx context.Context, key registry.Key, opts metav1.DeleteOptions) (obj registry.Object, gone bool, err error) {
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
		if err := w.empty(ctx, key.Name); err != nil {
			return nil, false, err
		}
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
	released, err := w.releases(ctx, obj)
	if err != nil {
		return nil, false, err
	}
	revision, err = w.commit(ctx, append([]etcd.Op{{Key: key, Revision: revision}}, released...)...)
	if err != nil {
		return nil, false, err
	}
	return stored(obj, revision), true, nil
}

// gracePeriod returns the seconds that pod has to terminate. There is nothing
// to wait for when no process of ours is behind it.
func gracePeriod(pod *corev1.Pod, opts metav1.DeleteOptions) int64 {
	if pod.Annotations[registry.AnnotationLease] == "" {
		return 0
	}
	if opts.GracePeriodSeconds != nil {
		return *opts.GracePeriodSeconds
	}
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		return *pod.Spec.TerminationGracePeriodSeconds
	}
	return corev1.DefaultTerminationGracePeriodSeconds
}

// terminate marks pod as terminating: it gets no new connections, and whoever
// runs it ends it. A shorter grace period shortens one already running.
func (w *Writer) terminate(ctx context.Context, pod *corev1.Pod, revision, grace int64) (registry.Object, error) {
	if pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds <= grace {
		return pod, nil
	}
	pod.DeletionTimestamp = &metav1.Time{Time: time.Now().Add(time.Duration(grace) * time.Second).UTC().Truncate(time.Second)}
	pod.DeletionGracePeriodSeconds = &grace
	pod.Generation++
	lease, err := leaseOf(pod)
	if err != nil {
		return nil, err
	}
	revision, err = w.commit(ctx, etcd.Op{Key: registry.KeyOf(pod), Object: pod, Revision: revision, Lease: lease})
	if err != nil {
		return nil, err
	}
	return stored(pod, revision), nil
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

// empty deletes everything in a namespace.
func (w *Writer) empty(ctx context.Context, namespace string) error {
	for _, k := range registry.Kinds {
		if !k.Namespaced {
			continue
		}
		for obj := range w.Store.Snapshot().List(k, namespace) {
			if registry.IsDerived(obj) {
				continue
			}
			if _, _, err := w.Delete(ctx, registry.KeyOf(obj), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
	}
	return nil
}
