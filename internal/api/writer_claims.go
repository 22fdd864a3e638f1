package api

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"usher/registry"
	"usher/registry/etcd"
)

// claims are the addresses and node ports that a write allocates and releases.
// One is claimed by its IPAddress or NodePort object, created in the same
// transaction as what uses it: whoever creates that first has it, whatever
// races.
type claims struct {
	w     *Writer
	obj   registry.Object
	lease etcd.LeaseID

	started time.Time

	fixed []registry.Key        // asked for by the object
	open  []*allocation         // to be found
	lost  map[registry.Key]bool // turned out to be somebody else's
	held  []etcd.Op             // release what is no longer used, and move what stays to another lease
}

// An allocation is an address or a port to be found.
type allocation struct {
	candidates iter.Seq[registry.Key] // in the order in which to try them
	give       func(registry.Key)     // puts one into the object
	full       error                  // when none is free; nil: the object does without
	key        registry.Key           // the present attempt
}

// first returns the first of the candidates.
func (a *allocation) first() registry.Key {
	for key := range a.candidates {
		return key
	}
	return registry.Key{}
}

// newClaims works out what a new object has to claim.
func (w *Writer) newClaims(obj registry.Object, lease etcd.LeaseID) *claims {
	return &claims{
		w: w, obj: obj, lease: lease, open: w.wanted(obj), fixed: w.claimed(obj), lost: make(map[registry.Key]bool),
		started: time.Now(),
	}
}

// changeClaims works out what obj, which takes the place of old, has to claim,
// to release, and to take along to another lease.
func (w *Writer) changeClaims(ctx context.Context, obj, old registry.Object, lease etcd.LeaseID) (*claims, error) {
	c := w.newClaims(obj, lease)
	c.fixed = nil
	was, now := w.claimed(old), w.claimed(obj)
	for _, key := range now {
		if !slices.Contains(was, key) {
			c.fixed = append(c.fixed, key)
		}
	}
	before, err := leaseOf(old)
	moves := err != nil || before != lease
	for _, key := range was {
		stays := slices.Contains(now, key)
		if stays && !moves {
			continue
		}
		op, err := w.heldClaim(ctx, old, key)
		if err != nil {
			return nil, err
		}
		switch {
		case stays:
			revision := int64(0) // the claim is missing: it is made again
			if op != nil {
				revision = op.Revision
			}
			moved := c.claim(key)
			moved.Revision = revision
			c.held = append(c.held, moved)
		case op != nil:
			c.held = append(c.held, *op)
		}
	}
	return c, nil
}

// heldClaim returns the operation that releases the claim of obj under key, or
// nil when obj has none: it may be another object's by now.
func (w *Writer) heldClaim(ctx context.Context, obj registry.Object, key registry.Key) (*etcd.Op, error) {
	claim, revision, err := w.read(ctx, key)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if owner := parentOf(claim); owner != registry.KeyOf(obj) {
		return nil, nil
	}
	return &etcd.Op{Key: key, Revision: revision}, nil
}

// releases returns the operations that release every claim of obj.
func (w *Writer) releases(ctx context.Context, obj registry.Object) ([]etcd.Op, error) {
	var ops []etcd.Op
	for _, key := range w.claimed(obj) {
		op, err := w.heldClaim(ctx, obj, key)
		if err != nil {
			return nil, err
		}
		if op != nil {
			ops = append(ops, *op)
		}
	}
	return ops, nil
}

func claimKey(ip netip.Addr) registry.Key {
	return registry.Key{Kind: registry.IPAddresses, Name: ip.String()}
}

func portKey(port int32) registry.Key {
	return registry.Key{Kind: registry.NodePorts, Name: strconv.Itoa(int(port))}
}

// refOf returns what says to whom a claim belongs, or nil.
func refOf(claim registry.Object) *networkingv1.ParentReference {
	switch claim := claim.(type) {
	case *networkingv1.IPAddress:
		return claim.Spec.ParentRef
	case *registry.NodePort:
		return claim.Spec.ParentRef
	}
	return nil
}

// parentOf returns the key of the object that holds claim. Its Kind is nil when
// that is none of the registry's.
func parentOf(claim registry.Object) registry.Key {
	ref := refOf(claim)
	if ref == nil {
		return registry.Key{}
	}
	for _, k := range registry.Kinds {
		if k.Group == ref.Group && k.Resource == ref.Resource {
			return registry.Key{Kind: k, Namespace: ref.Namespace, Name: ref.Name}
		}
	}
	return registry.Key{}
}

// checkUnheld refuses the deletion of a claim whose holder exists: the address
// would be given away a second time.
func (w *Writer) checkUnheld(ctx context.Context, claim registry.Object) error {
	holder := parentOf(claim)
	if holder.Kind == nil {
		return nil
	}
	obj, _, err := w.read(ctx, holder)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	key, what := registry.KeyOf(claim), "the address"
	if !slices.Contains(w.claimed(obj), key) {
		return nil
	}
	if key.Kind == registry.NodePorts {
		what = "a node port"
	}
	return apierrors.NewForbidden(key.Kind.GroupResource(), key.Name, fmt.Errorf(
		"it is %s of the %s %q in namespace %q, and goes with it", what, holder.Kind.Singular, holder.Name, holder.Namespace))
}

// claimed returns the keys of what obj has a claim on.
func (w *Writer) claimed(obj registry.Object) []registry.Key {
	var ips []string
	var keys []registry.Key
	switch obj := obj.(type) {
	case *corev1.Service:
		ips = registry.ClusterIPs(obj)
		if addr := w.balancerIP(obj); addr.IsValid() {
			ips = append(slices.Clip(ips), addr.String())
		}
	case *corev1.Pod:
		ips = append(ips, obj.Status.PodIP)
	}
	for _, ip := range ips {
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			continue
		}
		// Pods may share an address, such as their host's, but not one of ours.
		if registry.KindOf(obj) == registry.Pods && !registry.PodCIDR.Contains(addr) {
			continue
		}
		keys = append(keys, claimKey(addr))
	}
	if svc, ok := obj.(*corev1.Service); ok {
		for _, port := range registry.NodePortsOf(svc) {
			keys = append(keys, portKey(port))
		}
	}
	return keys
}

// next returns the operations that make the claims, and gives the object what
// was found. After taken it returns the next attempt.
func (c *claims) next() ([]etcd.Op, error) {
	ops := slices.Clone(c.held)
	for _, key := range c.fixed {
		if msg := c.w.outOfRange(c.obj, key); msg != "" {
			return nil, c.errorFor(key, msg)
		}
		if c.lost[key] {
			c.count(key, static, false)
			what := "IP"
			if key.Kind == registry.NodePorts {
				what = "port"
			}
			return nil, c.errorFor(key, "provided "+what+" is already allocated")
		}
		ops = append(ops, c.claim(key))
	}
	for i, a := range c.open {
		switch {
		case c.find(a, c.open[:i]):
			a.give(a.key)
			ops = append(ops, c.claim(a.key))
		case a.full != nil:
			c.count(a.first(), dynamic, false)
			return nil, apierrors.NewInternalError(a.full)
		default:
			a.key = registry.Key{}
			a.give(a.key)
		}
	}
	return ops, nil
}

// find looks for the first candidate that is free as far as this node knows,
// and that no other allocation of the same object has found.
func (c *claims) find(a *allocation, others []*allocation) bool {
	snapshot := c.w.Store.Snapshot()
	for key := range a.candidates {
		found := slices.Contains(c.fixed, key) || slices.ContainsFunc(others, func(b *allocation) bool { return b.key == key })
		if !found && !c.lost[key] && snapshot.Get(key) == nil {
			a.key = key
			return true
		}
	}
	return false
}

// taken notes that somebody else has what was to be claimed under key. It
// reports false for a key of anything else.
func (c *claims) taken(key registry.Key) bool {
	asked := slices.Contains(c.fixed, key) ||
		slices.ContainsFunc(c.open, func(a *allocation) bool { return a.key == key })
	c.lost[key] = asked
	return asked
}

// claim is the operation that makes a claim: there must be none under key.
func (c *claims) claim(key registry.Key) etcd.Op {
	return etcd.Op{Key: key, Object: newClaim(key, c.obj), Lease: c.lease}
}

// managedBy is the value of the label networkingv1.LabelManagedBy of claims that usher
// makes.
const managedBy = "ipallocator." + registry.Group

// newClaim returns the claim of obj under key.
func newClaim(key registry.Key, obj registry.Object) registry.Object {
	kind := registry.KindOf(obj)
	ref := &networkingv1.ParentReference{
		Group: kind.Group, Resource: kind.Resource, Namespace: obj.GetNamespace(), Name: obj.GetName(),
	}
	claim := key.Kind.New()
	claim.SetName(key.Name)
	prepareCreate(claim)
	labels := map[string]string{networkingv1.LabelManagedBy: managedBy}
	switch claim := claim.(type) {
	case *networkingv1.IPAddress:
		claim.Spec.ParentRef = ref
		labels[networkingv1.LabelIPAddressFamily] = string(familyOf(key.Name))
	case *registry.NodePort:
		claim.Spec.ParentRef = ref
	}
	claim.SetLabels(labels)
	return claim
}
