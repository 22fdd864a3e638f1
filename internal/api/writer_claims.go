package api

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"usher/registry"
	"usher/registry/etcd"
)

// claims are the addresses that a write allocates and releases. An address is
// claimed by its IPAddress object, created in the same transaction as what
// uses it: whoever creates that first has the address, whatever races.
type claims struct {
	w     *Writer
	obj   registry.Object
	lease etcd.LeaseID

	fixed []netip.Addr        // asked for by the object
	open  []*allocation       // to be found
	lost  map[netip.Addr]bool // turned out to be somebody else's
	held  []etcd.Op           // release what is no longer used, and move what stays to another lease
}

// An allocation is an address to be found in a range.
type allocation struct {
	at   int // the index it is to have among the object's addresses
	from registry.IPRange
	ip   netip.Addr // the present attempt
}

// newClaims works out what a new object has to claim.
func (w *Writer) newClaims(obj registry.Object, lease etcd.LeaseID) *claims {
	return &claims{
		w: w, obj: obj, lease: lease, fixed: claimed(obj), open: w.wanted(obj), lost: make(map[netip.Addr]bool),
	}
}

// changeClaims works out what obj, which takes the place of old, has to claim,
// to release, and to take along to another lease.
func (w *Writer) changeClaims(ctx context.Context, obj, old registry.Object, lease etcd.LeaseID) (*claims, error) {
	c := w.newClaims(obj, lease)
	c.fixed = nil
	was, now := claimed(old), claimed(obj)
	for _, ip := range now {
		if !slices.Contains(was, ip) {
			c.fixed = append(c.fixed, ip)
		}
	}
	before, err := leaseOf(old)
	moves := err != nil || before != lease
	for _, ip := range was {
		stays := slices.Contains(now, ip)
		if stays && !moves {
			continue
		}
		op, err := w.heldClaim(ctx, old, ip)
		if err != nil {
			return nil, err
		}
		switch {
		case stays:
			revision := int64(0) // the claim is missing: it is made again
			if op != nil {
				revision = op.Revision
			}
			moved := c.claim(ip)
			moved.Revision = revision
			c.held = append(c.held, moved)
		case op != nil:
			c.held = append(c.held, *op)
		}
	}
	return c, nil
}

// heldClaim returns the operation that releases the claim of obj to ip, or nil
// when obj has none: it may be another object's by now.
func (w *Writer) heldClaim(ctx context.Context, obj registry.Object, ip netip.Addr) (*etcd.Op, error) {
	key := claimKey(ip)
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
	for _, ip := range claimed(obj) {
		op, err := w.heldClaim(ctx, obj, ip)
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

// parentOf returns the key of the object that holds claim. Its Kind is nil when
// that is none of the registry's.
func parentOf(claim registry.Object) registry.Key {
	ref := claim.(*networkingv1.IPAddress).Spec.ParentRef
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
	addr, err := netip.ParseAddr(claim.GetName())
	if err != nil || !slices.Contains(claimed(obj), addr) {
		return nil
	}
	return apierrors.NewForbidden(registry.IPAddresses.GroupResource(), claim.GetName(), fmt.Errorf(
		"it is the address of the %s %q in namespace %q, and goes with it", holder.Kind.Singular, holder.Name, holder.Namespace))
}

// claimed returns the addresses that obj has a claim on.
func claimed(obj registry.Object) []netip.Addr {
	var ips []string
	switch obj := obj.(type) {
	case *corev1.Service:
		ips = registry.ClusterIPs(obj)
	case *corev1.Pod:
		ips = append(ips, obj.Status.PodIP)
	}
	var addrs []netip.Addr
	for _, ip := range ips {
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			continue
		}
		// Pods may share an address, such as their host's, but not one of ours.
		if registry.KindOf(obj) == registry.Pods && !registry.PodCIDR.Contains(addr) {
			continue
		}
		addrs = append(addrs, addr)
	}
	return addrs
}

// wanted returns the addresses that obj has yet to get.
func (w *Writer) wanted(obj registry.Object) []*allocation {
	var open []*allocation
	switch obj := obj.(type) {
	case *corev1.Pod:
		if obj.Annotations[registry.AnnotationLease] != "" && obj.Status.PodIP == "" {
			open = append(open, &allocation{from: registry.NewIPRange(registry.PodCIDR)})
		}
	case *corev1.Service:
		if obj.Spec.Type == corev1.ServiceTypeExternalName || obj.Spec.ClusterIP == corev1.ClusterIPNone {
			break
		}
		for i := len(obj.Spec.ClusterIPs); i < len(obj.Spec.IPFamilies); i++ {
			if j := slices.Index(w.families, obj.Spec.IPFamilies[i]); j >= 0 {
				open = append(open, &allocation{at: i, from: w.ServiceCIDRs[j]})
			}
		}
	}
	return open
}

// next returns the operations that make the claims, and gives the object the
// addresses. After taken it returns the next attempt.
func (c *claims) next() ([]etcd.Op, error) {
	ops := slices.Clone(c.held)
	for _, ip := range c.fixed {
		if msg := c.w.outOfRange(c.obj, ip); msg != "" {
			return nil, c.errorFor(ip, msg)
		}
		if c.lost[ip] {
			return nil, c.errorFor(ip, "provided IP is already allocated")
		}
		ops = append(ops, c.claim(ip))
	}
	for _, a := range c.open {
		if !c.find(a) {
			return nil, apierrors.NewInternalError(fmt.Errorf("failed to allocate an IP for %s %q: range is full",
				registry.KindOf(c.obj).Kind, c.obj.GetName()))
		}
		c.give(a.at, a.ip)
		ops = append(ops, c.claim(a.ip))
	}
	return ops, nil
}

// find looks for the first candidate that is free as far as this node knows.
func (c *claims) find(a *allocation) bool {
	if c.w.dryRun {
		a.ip = a.from.Prefix().Addr() // as Kubernetes answers: it is nobody's, and says so
		return true
	}
	snapshot := c.w.Store.Snapshot()
	for ip := range a.from.Candidates(c.obj.GetNamespace() + "/" + c.obj.GetName()) {
		if !c.lost[ip] && snapshot.Get(registry.Key{Kind: registry.IPAddresses, Name: ip.String()}) == nil {
			a.ip = ip
			return true
		}
	}
	return false
}

// taken notes that somebody else has the address of a claim. It reports false
// for a key that is none of what is to be claimed.
func (c *claims) taken(key registry.Key) bool {
	ip, err := netip.ParseAddr(key.Name)
	if key.Kind != registry.IPAddresses || err != nil {
		return false
	}
	asked := slices.Contains(c.fixed, ip) ||
		slices.ContainsFunc(c.open, func(a *allocation) bool { return a.ip == ip })
	c.lost[ip] = asked
	return asked
}

// give puts an allocated address into the object, as the one of index at.
func (c *claims) give(at int, ip netip.Addr) {
	switch obj := c.obj.(type) {
	case *corev1.Pod:
		obj.Status.PodIP = ip.String()
		obj.Status.PodIPs = []corev1.PodIP{{IP: ip.String()}}
	case *corev1.Service:
		obj.Spec.ClusterIPs = append(slices.Clone(obj.Spec.ClusterIPs[:min(at, len(obj.Spec.ClusterIPs))]), ip.String())
		obj.Spec.ClusterIP = obj.Spec.ClusterIPs[0]
	}
}

// outOfRange says why obj cannot have ip, or "".
func (w *Writer) outOfRange(obj registry.Object, ip netip.Addr) string {
	if _, ok := obj.(*corev1.Service); !ok {
		return ""
	}
	for _, r := range w.ServiceCIDRs {
		if r.Contains(ip) {
			return ""
		}
	}
	valid := ""
	for _, r := range w.ServiceCIDRs {
		if valid == "" || r.Prefix().Addr().Is4() == ip.Is4() {
			valid = r.Prefix().String()
		}
	}
	return fmt.Sprintf("the provided IP (%v) is not in the valid range. The range of valid IPs is %s", ip, valid)
}

func (c *claims) errorFor(ip netip.Addr, why string) error {
	key := registry.KeyOf(c.obj)
	if svc, ok := c.obj.(*corev1.Service); ok {
		return invalid(key, field.Invalid(field.NewPath("spec", "clusterIPs"), svc.Spec.ClusterIPs,
			fmt.Sprintf("failed to allocate IP %v: %s", ip, why)))
	}
	return invalid(key, field.Invalid(field.NewPath("status", "podIP"), ip.String(), why))
}

// claim is the operation that claims ip: its IPAddress must not exist.
func (c *claims) claim(ip netip.Addr) etcd.Op {
	kind := registry.KindOf(c.obj)
	claim := registry.IPAddresses.New().(*networkingv1.IPAddress)
	claim.Name = ip.String()
	prepareCreate(claim)
	family := "IPv4"
	if ip.Is6() {
		family = "IPv6"
	}
	claim.Labels = map[string]string{
		networkingv1.LabelIPAddressFamily: family,
		networkingv1.LabelManagedBy:       "ipallocator.usher.internal",
	}
	claim.Spec.ParentRef = &networkingv1.ParentReference{
		Group: kind.Group, Resource: kind.Resource, Namespace: c.obj.GetNamespace(), Name: c.obj.GetName(),
	}
	return etcd.Op{Key: registry.KeyOf(claim), Object: claim, Lease: c.lease}
}
