package api

import (
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
	free  []netip.Addr        // no longer used
	open  []*allocation       // to be found
	lost  map[netip.Addr]bool // turned out to be somebody else's
}

// An allocation is an address to be found in a range.
type allocation struct {
	at   int // the index it is to have among the object's addresses
	from registry.IPRange
	ip   netip.Addr // the present attempt
}

// newClaims works out what obj, which takes the place of old (nil for a new
// object), has to claim and release.
func (w *Writer) newClaims(obj, old registry.Object, lease etcd.LeaseID) *claims {
	c := &claims{w: w, obj: obj, lease: lease, open: w.wanted(obj), lost: make(map[netip.Addr]bool)}
	var was []netip.Addr
	if old != nil {
		was = claimed(old)
	}
	now := claimed(obj)
	for _, ip := range now {
		if !slices.Contains(was, ip) {
			c.fixed = append(c.fixed, ip)
		}
	}
	for _, ip := range was {
		if !slices.Contains(now, ip) {
			c.free = append(c.free, ip)
		}
	}
	return c
}

// claimed returns the addresses that obj has a claim on.
func claimed(obj registry.Object) []netip.Addr {
	var ips []string
	switch obj := obj.(type) {
	case *corev1.Service:
		ips = registry.ClusterIPs(obj)
	case *corev1.Pod:
		if obj.Annotations[registry.AnnotationLease] != "" {
			ips = append(ips, obj.Status.PodIP)
		}
	}
	var addrs []netip.Addr
	for _, ip := range ips {
		if addr, err := netip.ParseAddr(ip); err == nil {
			addrs = append(addrs, addr)
		}
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
	var ops []etcd.Op
	for _, ip := range c.free {
		ops = append(ops, release(ip))
	}
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
	snapshot := c.w.Store.Snapshot()
	for ip := range a.from.Candidates(c.obj.GetNamespace() + "/" + c.obj.GetName()) {
		if !c.lost[ip] && snapshot.Get(registry.Key{Kind: registry.IPAddresses, Name: ip.String()}) == nil {
			a.ip = ip
			return true
		}
	}
	return false
}

// taken notes that somebody else has the address of a claim.
func (c *claims) taken(key registry.Key) {
	if ip, err := netip.ParseAddr(key.Name); err == nil {
		c.lost[ip] = true
	}
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

// release is the operation that gives ip back.
func release(ip netip.Addr) etcd.Op {
	key := registry.Key{Kind: registry.IPAddresses, Name: ip.String()}
	return etcd.Op{Key: key, Revision: etcd.Any}
}
