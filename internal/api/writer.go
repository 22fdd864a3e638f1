package api

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	manager  string // who becomes the owner of what is set; "": nobody

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
	revision, err := revisionOf(obj)
	if err != nil {
		return nil, 0, apierrors.NewInternalError(err)
	}
	return obj, revision, nil
}

// revisionOf returns the revision of a stored object.
func revisionOf(obj registry.Object) (int64, error) {
	return strconv.ParseInt(obj.GetResourceVersion(), 10, 64)
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
