package cli

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/api"
	"usher/internal/client"
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
	reasons, err := c.ExplainService(ctx, svc.Namespace, svc.Name)
	if err != nil {
		return err
	}
	for i, port := range spec.Ports {
		var r api.PortReasons
		if i < len(reasons.Ports) {
			r = reasons.Ports[i]
		}
		describePort(p, port, r)
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

func describePort(p *page, port corev1.ServicePort, r api.PortReasons) {
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
	var used, rest []string
	for _, v := range r.Endpoints {
		switch {
		case !v.Used:
			rest = append(rest, verdictName(v)+": "+v.Reason)
		case v.Reason != "":
			used = append(used, v.Address+" ("+v.Reason+")")
		default:
			used = append(used, v.Address)
		}
	}
	if r.Why != "" {
		p.field(0, "Not Served", r.Why)
	}
	p.field(0, "Endpoints", strings.Join(used, ","))
	if len(rest) > 0 {
		p.list(0, "Not Used", rest)
	}
}

func joinStrings[T ~string](list []T) string {
	var parts []string
	for _, v := range list {
		parts = append(parts, string(v))
	}
	return strings.Join(parts, ",")
}
