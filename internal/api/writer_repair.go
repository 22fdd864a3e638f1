package api

import (
	"context"
	"errors"
	"fmt"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
	"usher/registry/etcd"
)

// A repair is one pass over all claims. Writes keep claims and what holds them
// together; a restored backup or a hand in etcd does not.
type repair struct {
	w        *Writer
	snapshot *registry.Snapshot
	report   func(about registry.Object, reason, message string)
	held     map[registry.Key]bool // claims that somebody holds rightly
}

// Repair makes the claims that are missing, takes back those that nobody
// holds, and reports both, in Kubernetes' words where it has them. An address
// that two objects have is reported only: which of them is to get another is
// for people to say. It also removes the ServiceCIDRs that were waiting for
// their last address, and empties and removes the Namespaces that are to go.
func (w *Writer) Repair(ctx context.Context, report func(about registry.Object, reason, message string)) error {
	r := &repair{w: w, snapshot: w.Store.Snapshot(), report: report, held: make(map[registry.Key]bool)}
	var errs []error
	for _, kind := range []*registry.Kind{registry.Services, registry.Pods} {
		for obj := range r.snapshot.List(kind, "") {
			for _, key := range w.claimed(obj) {
				errs = append(errs, r.mend(ctx, obj, key))
			}
		}
	}
	for _, kind := range []*registry.Kind{registry.IPAddresses, registry.NodePorts} {
		for claim := range r.snapshot.List(kind, "") {
			errs = append(errs, r.takeBack(ctx, claim))
		}
	}
	for _, kind := range []*registry.Kind{registry.ServiceCIDRs, registry.Namespaces} {
		for obj := range r.snapshot.List(kind, "") {
			errs = append(errs, r.finish(ctx, obj))
		}
	}
	return errors.Join(errs...)
}

// finish goes on with the deletion of an object that was waiting for others. In
// a Namespace there may be some that came while it was being marked.
func (r *repair) finish(ctx context.Context, obj registry.Object) error {
	cidr, ok := obj.(*networkingv1.ServiceCIDR)
	if obj.GetDeletionTimestamp() == nil || ok && r.w.needed(cidr) {
		return nil
	}
	if _, _, err := r.w.Delete(ctx, registry.KeyOf(obj), metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
		return err
	}
	return nil
}

// mend sees to it that obj has the claim under key.
func (r *repair) mend(ctx context.Context, obj registry.Object, key registry.Key) error {
	name := describeClaim(key)
	claim := r.snapshot.Get(key)
	revision := int64(0)
	switch {
	case r.held[key]:
		r.report(obj, "ClusterIPAlreadyAllocated", name+" was assigned to multiple services; please recreate service")
		return nil
	case claim == nil:
		r.report(obj, "ClusterIPNotAllocated", name+" is not allocated; repairing")
	case parentOf(claim) == registry.KeyOf(obj):
		r.held[key] = true
		return nil
	case r.holds(parentOf(claim), key):
		r.report(obj, "ClusterIPAlreadyAllocated", name+" was assigned to multiple services; please recreate service")
		return nil
	default:
		r.report(obj, "ClusterIPNotAllocated", name+" has a wrong reference; repairing")
		var err error
		if revision, err = revisionOf(claim); err != nil {
			return err
		}
	}
	r.held[key] = true
	lease, err := leaseOf(obj)
	if err != nil {
		return err
	}
	return r.commit(ctx, etcd.Op{Key: key, Object: newClaim(key, obj), Revision: revision, Lease: lease})
}

// holds reports whether there is an object under owner that uses what is
// claimed under key.
func (r *repair) holds(owner, key registry.Key) bool {
	if owner.Kind == nil {
		return false
	}
	obj := r.snapshot.Get(owner)
	return obj != nil && slices.Contains(r.w.claimed(obj), key)
}

// takeBack removes a claim that usher made and nobody holds. One that somebody
// else made reserves what it names.
func (r *repair) takeBack(ctx context.Context, claim registry.Object) error {
	key, owner := registry.KeyOf(claim), parentOf(claim)
	if r.held[key] || r.holds(owner, key) || claim.GetLabels()[networkingv1.LabelManagedBy] != managedBy {
		return nil
	}
	revision, err := revisionOf(claim)
	if err != nil {
		return err
	}
	r.report(claim, "IPAddressNotAllocated", fmt.Sprintf("%s: %s for Service %s/%s appears to have leaked: cleaning up",
		key.Kind.Kind, key.Name, owner.Namespace, owner.Name))
	return r.commit(ctx, etcd.Op{Key: key, Revision: revision})
}

// commit makes a write unless the registry is another than was looked at: then
// the next pass sees to it.
func (r *repair) commit(ctx context.Context, op etcd.Op) error {
	_, err := r.w.commit(ctx, op)
	if errors.As(err, new(*etcd.ConflictError)) {
		return nil
	}
	return err
}

// describeClaim names what is claimed under key, as Kubernetes' events do.
func describeClaim(key registry.Key) string {
	if key.Kind == registry.NodePorts {
		return "Port " + key.Name
	}
	return fmt.Sprintf("Cluster IP [%s]: %s", familyOf(key.Name), key.Name)
}
