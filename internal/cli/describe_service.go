package cli

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/client"
	"usher/registry"
)

// describeService writes what kubectl does of a Service and, beyond that, the
// endpoints that are not ready and the conditions.
func describeService(ctx context.Context, c *client.Client, p *page, svc *corev1.Service) error {
	describeMeta(p, svc)
	spec := &svc.Spec
	p.field(0, "Selector", metav1.FormatLabelSelector(metav1.SetAsLabelSelector(spec.Selector)))
	p.field(0, "Type", string(spec.Type))
	if spec.IPFamilyPolicy != nil {
		p.field(0, "IP Family Policy", string(*spec.IPFamilyPolicy))
	}
	p.field(0, "IP Families", joinStrings(spec.IPFamilies))
	p.field(0, "IP", spec.ClusterIP)
	p.field(0, "IPs", strings.Join(spec.ClusterIPs, ","))
	if len(spec.ExternalIPs) > 0 {
		p.field(0, "External IPs", strings.Join(spec.ExternalIPs, ","))
	}
	if spec.LoadBalancerIP != "" {
		p.field(0, "Desired LoadBalancer IP", spec.LoadBalancerIP)
	}
	if spec.ExternalName != "" {
		p.field(0, "External Name", spec.ExternalName)
	}
	if len(svc.Status.LoadBalancer.Ingress) > 0 {
		p.field(0, "LoadBalancer Ingress", ingressString(svc.Status.LoadBalancer.Ingress))
	}
	endpoints, err := endpointsOf(ctx, c, svc)
	if err != nil {
		return err
	}
	for _, port := range spec.Ports {
		describePort(p, port, endpoints)
	}
	p.field(0, "Session Affinity", string(spec.SessionAffinity))
	if spec.ExternalTrafficPolicy != "" {
		p.field(0, "External Traffic Policy", string(spec.ExternalTrafficPolicy))
	}
	if spec.InternalTrafficPolicy != nil {
		p.field(0, "Internal Traffic Policy", string(*spec.InternalTrafficPolicy))
	}
	if spec.HealthCheckNodePort != 0 {
		p.field(0, "HealthCheck NodePort", strconv.Itoa(int(spec.HealthCheckNodePort)))
	}
	if len(spec.LoadBalancerSourceRanges) > 0 {
		p.field(0, "LoadBalancer Source Ranges", strings.Join(spec.LoadBalancerSourceRanges, ","))
	}
	if spec.TrafficDistribution != nil {
		p.field(0, "Traffic Distribution", *spec.TrafficDistribution)
	}
	if err := describeEjected(ctx, c, p, svc); err != nil {
		return err
	}
	if len(svc.Status.Conditions) > 0 {
		var rows [][]string
		for _, cond := range svc.Status.Conditions {
			rows = append(rows, []string{cond.Type, string(cond.Status), cond.Reason, cond.Message})
		}
		p.table(0, "Conditions", []string{"Type", "Status", "Reason", "Message"}, rows)
	}
	return nil
}

// ingressString lists the addresses of a load balancer.
func ingressString(ingress []corev1.LoadBalancerIngress) string {
	var list []string
	for _, in := range ingress {
		text := cmp.Or(in.IP, in.Hostname)
		if in.IP != "" && in.IPMode != nil {
			text += fmt.Sprintf(" (%s)", *in.IPMode)
		}
		list = append(list, text)
	}
	return strings.Join(list, ", ")
}

func describePort(p *page, port corev1.ServicePort, e serviceEndpoints) {
	name := port.Name
	if name == "" {
		name = "<unset>"
	}
	p.field(0, "Port", fmt.Sprintf("%s  %d/%s", name, port.Port, port.Protocol))
	p.field(0, "TargetPort", fmt.Sprintf("%s/%s", port.TargetPort.String(), port.Protocol))
	if port.AppProtocol != nil {
		p.field(0, "AppProtocol", *port.AppProtocol)
	}
	if port.NodePort != 0 {
		p.field(0, "NodePort", fmt.Sprintf("%s  %d/%s", name, port.NodePort, port.Protocol))
	}
	ready, rest := e.ofPort(port)
	p.field(0, "Endpoints", strings.Join(ready, ","))
	if len(rest) > 0 {
		p.list(0, "Not Ready", rest)
	}
}

func joinStrings[T ~string](list []T) string {
	var parts []string
	for _, v := range list {
		parts = append(parts, string(v))
	}
	return strings.Join(parts, ",")
}

// serviceEndpoints are the slices of a Service, and its Pods by their names.
type serviceEndpoints struct {
	slices []*discoveryv1.EndpointSlice
	pods   map[string]*corev1.Pod
}

// endpointsOf reads the endpoints of a Service.
func endpointsOf(ctx context.Context, c *client.Client, svc *corev1.Service) (serviceEndpoints, error) {
	e := serviceEndpoints{pods: make(map[string]*corev1.Pod)}
	list, err := c.List(ctx, registry.EndpointSlices, svc.Namespace, client.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + svc.Name,
	})
	if err != nil {
		return e, err
	}
	for _, item := range list.Items {
		e.slices = append(e.slices, item.(*discoveryv1.EndpointSlice))
	}
	if len(svc.Spec.Selector) == 0 {
		return e, nil
	}
	list, err = c.List(ctx, registry.Pods, svc.Namespace, client.ListOptions{
		LabelSelector: metav1.FormatLabelSelector(metav1.SetAsLabelSelector(svc.Spec.Selector)),
	})
	if err != nil {
		return e, err
	}
	for _, item := range list.Items {
		e.pods[item.GetName()] = item.(*corev1.Pod)
	}
	return e, nil
}

// ofPort returns the ready endpoints of a Service port, and the others with
// the reason.
func (e serviceEndpoints) ofPort(port corev1.ServicePort) (ready, rest []string) {
	for _, s := range e.slices {
		for _, p := range s.Ports {
			if p.Port == nil || p.Name != nil && *p.Name != port.Name || p.Protocol != nil && *p.Protocol != port.Protocol {
				continue
			}
			for i := range s.Endpoints {
				ep := &s.Endpoints[i]
				if len(ep.Addresses) == 0 {
					continue
				}
				address := net.JoinHostPort(ep.Addresses[0], strconv.Itoa(int(*p.Port)))
				if ep.Conditions.Ready == nil || *ep.Conditions.Ready {
					ready = append(ready, address)
				} else {
					rest = append(rest, address+" ("+e.reason(ep)+")")
				}
			}
		}
	}
	slices.Sort(ready)
	slices.Sort(rest)
	return slices.Compact(ready), slices.Compact(rest)
}

// reason says why an endpoint is not ready, in the words of its Pod where it
// has one.
func (e serviceEndpoints) reason(ep *discoveryv1.Endpoint) string {
	text := "not ready"
	if ep.Conditions.Terminating != nil && *ep.Conditions.Terminating {
		text = "terminating"
	}
	if ep.TargetRef == nil || ep.TargetRef.Kind != registry.Pods.Kind {
		return text
	}
	text = "pod " + ep.TargetRef.Name + ": " + text
	pod := e.pods[ep.TargetRef.Name]
	if pod == nil {
		return text
	}
	for _, cond := range pod.Status.Conditions {
		if cond.Type != corev1.PodReady || cond.Status == corev1.ConditionTrue {
			continue
		}
		for _, why := range []string{cond.Reason, cond.Message} {
			if why != "" {
				text += ", " + why
			}
		}
	}
	return text
}
