package daemon

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"usher/registry"
)

// apiOffset is where in the service CIDR the API is, by convention.
const apiOffset = 1

// LabelDNS is the service-proxy-name of the kube-dns Service: the nameserver
// listens at its address itself.
const LabelDNS = "usher-dns"

// bootstrap makes what always exists, and makes it again when it is deleted:
// the namespaces, this node, and the Services kubernetes and kube-dns.
func (d *daemon) bootstrap(ctx context.Context) error {
	select {
	case <-d.store.Synced():
	case <-ctx.Done():
		return nil
	}
	for {
		revision := d.store.Snapshot().Revision()
		err := d.ensureAll(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			d.Log.Warn("bootstrap", "error", err)
			select {
			case <-time.After(minRetry):
				continue
			case <-ctx.Done():
				return nil
			}
		case !d.bootstrapped.Swap(true):
			d.Log.Info("ready", "took", time.Since(d.started).Round(time.Millisecond), "revision", revision)
		}
		if !d.awaitLoss(ctx, revision) {
			return nil
		}
	}
}

// awaitLoss waits until one of the objects that always exist may be gone. It
// returns false when ctx is done.
func (d *daemon) awaitLoss(ctx context.Context, revision int64) bool {
	always := make(map[registry.Key]bool)
	for _, obj := range d.always() {
		always[registry.KeyOf(obj)] = true
	}
	w, err := d.store.Watch(revision)
	if err != nil {
		return true
	}
	for {
		commits, err := w.Next(ctx)
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			return true
		}
		for _, c := range commits {
			for _, change := range c.Objects {
				if change.New == nil && always[registry.KeyOf(change.Old)] {
					return true
				}
			}
		}
	}
}

func (d *daemon) ensureAll(ctx context.Context) error {
	for _, obj := range d.always() {
		if err := d.ensure(ctx, obj); err != nil {
			return fmt.Errorf("%s: %w", registry.KeyOf(obj), err)
		}
	}
	return nil
}

// ensure creates obj unless it exists. A Service that has another address
// than it must have, after a change of serviceCIDR, is made anew.
func (d *daemon) ensure(ctx context.Context, obj registry.Object) error {
	key := registry.KeyOf(obj)
	old := d.store.Snapshot().Get(key)
	if cidr, ok := obj.(*networkingv1.ServiceCIDR); ok && old != nil {
		return d.ensureServiceCIDR(ctx, cidr, old.(*networkingv1.ServiceCIDR))
	}
	if svc, ok := obj.(*corev1.Service); ok && old != nil && old.(*corev1.Service).Spec.ClusterIP != svc.Spec.ClusterIP {
		if _, _, err := d.writer.Delete(ctx, key, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		old = nil
	}
	var err error
	switch {
	case old == nil:
		_, err = d.writer.Create(ctx, obj)
	case key.Kind == registry.Nodes:
		err = d.ensureNode(ctx, obj.(*corev1.Node), old.(*corev1.Node))
	case key.Kind == registry.EndpointSlices:
		_, err = d.writer.Update(ctx, obj, "")
	}
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// ensureNode makes the Node say what this machine is now. Labels that others
// have given it stay.
func (d *daemon) ensureNode(ctx context.Context, want, old *corev1.Node) error {
	labels := maps.Clone(old.Labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	maps.Copy(labels, want.Labels)
	if !maps.Equal(labels, old.Labels) {
		relabelled := old.DeepCopy()
		relabelled.Labels, relabelled.ResourceVersion = labels, ""
		if _, err := d.writer.Update(ctx, relabelled, ""); err != nil {
			return err
		}
	}
	_, err := d.writer.Update(ctx, want, "status")
	return err
}

// always returns the objects that always exist.
func (d *daemon) always() []registry.Object {
	var list []registry.Object
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease} {
		ns := registry.Namespaces.New().(*corev1.Namespace)
		ns.Name = name
		list = append(list, ns)
	}
	list = append(list, d.serviceCIDR(), d.node(), d.kubernetesService(), d.dnsService())
	if slice := d.kubernetesSlice(); slice != nil {
		list = append(list, slice)
	}
	return list
}

// node describes this machine as a Node.
func (d *daemon) node() *corev1.Node {
	n := registry.Nodes.New().(*corev1.Node)
	n.Name = d.Config.NodeName
	n.Labels = map[string]string{
		corev1.LabelHostname: n.Name, corev1.LabelOSStable: runtime.GOOS, corev1.LabelArchStable: runtime.GOARCH,
	}
	if d.Config.Zone != "" {
		n.Labels[corev1.LabelTopologyZone] = d.Config.Zone
	}
	now := metav1.Time{Time: d.started.UTC().Truncate(time.Second)}
	n.Status = corev1.NodeStatus{
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: n.Name}, {Type: corev1.NodeInternalIP, Address: "127.0.0.1"},
		},
		Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "UsherReady", Message: "usher serves on this node",
			LastHeartbeatTime: now, LastTransitionTime: now,
		}},
		NodeInfo: corev1.NodeSystemInfo{KubeletVersion: d.Version, OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH},
	}
	return n
}

// kubernetesService is the Service by which programs find the API.
func (d *daemon) kubernetesService() *corev1.Service {
	svc := newService(metav1.NamespaceDefault, "kubernetes", d.serviceIP(apiOffset))
	svc.Labels = map[string]string{"component": "apiserver", "provider": "kubernetes"}
	svc.Spec.Ports = []corev1.ServicePort{{Name: "https", Port: 443, TargetPort: intstr.FromInt32(6443)}}
	if addr, ok := d.controlAddr(); ok {
		svc.Spec.Ports[0].TargetPort = intstr.FromInt32(int32(addr.Port()))
	}
	return svc
}

// kubernetesSlice has the API's address, or is nil when there is no control
// port.
func (d *daemon) kubernetesSlice() *discoveryv1.EndpointSlice {
	addr, ok := d.controlAddr()
	if !ok {
		return nil
	}
	slice := registry.EndpointSlices.New().(*discoveryv1.EndpointSlice)
	slice.Namespace, slice.Name = metav1.NamespaceDefault, "kubernetes"
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: "kubernetes"}
	slice.AddressType = discoveryv1.AddressTypeIPv4
	if addr.Addr().Is6() {
		slice.AddressType = discoveryv1.AddressTypeIPv6
	}
	slice.Endpoints = []discoveryv1.Endpoint{{
		Addresses: []string{addr.Addr().String()}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
	}}
	slice.Ports = []discoveryv1.EndpointPort{{Name: new("https"), Port: new(int32(addr.Port())), Protocol: new(corev1.ProtocolTCP)}}
	return slice
}

// controlAddr returns where the control port can be reached on this machine.
func (d *daemon) controlAddr() (netip.AddrPort, bool) {
	for _, address := range d.api.Addresses() {
		_, rest, _ := strings.Cut(address, "://") // a socket has no //
		if addr, err := netip.ParseAddrPort(rest); err == nil {
			if addr.Addr().IsUnspecified() {
				addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), addr.Port())
			}
			return addr, true
		}
	}
	return netip.AddrPort{}, false
}

// apiAddresses returns the addresses by which programs find the API: those of
// the Service kubernetes.
func (d *daemon) apiAddresses() []string {
	ip := d.serviceIP(apiOffset)
	list := []string{ip.String()}
	for _, v := range d.views {
		if addr, ok := v.Address(ip); ok && addr != ip {
			list = append(list, addr.String())
		}
	}
	return list
}

// dnsService is the Service by which programs find the nameserver.
func (d *daemon) dnsService() *corev1.Service {
	svc := newService(metav1.NamespaceSystem, "kube-dns", d.serviceIP(registry.DNSOffset))
	svc.Labels = map[string]string{
		"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS", registry.LabelServiceProxyName: LabelDNS,
	}
	svc.Spec.Ports = []corev1.ServicePort{
		{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}, {Name: "dns-tcp", Port: 53, Protocol: corev1.ProtocolTCP},
	}
	return svc
}

func newService(namespace, name string, ip netip.Addr) *corev1.Service {
	svc := registry.Services.New().(*corev1.Service)
	svc.Namespace, svc.Name = namespace, name
	svc.Spec.ClusterIP = ip.String()
	return svc
}
