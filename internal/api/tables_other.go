package api

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func slicePorts(s *discoveryv1.EndpointSlice) string {
	var list []string
	for _, port := range s.Ports {
		switch {
		case port.Port != nil:
			list = append(list, strconv.Itoa(int(*port.Port)))
		case port.Name != nil:
			list = append(list, *port.Name)
		default:
			list = append(list, "*")
		}
	}
	return abbreviate(list, "<unset>")
}

func sliceAddresses(s *discoveryv1.EndpointSlice) string {
	var list []string
	for i := range s.Endpoints {
		list = append(list, s.Endpoints[i].Addresses...)
	}
	return abbreviate(list, "<unset>")
}

func endpointsAddresses(eps *corev1.Endpoints) string {
	var list []string
	for _, subset := range eps.Subsets {
		for _, addr := range subset.Addresses {
			if len(subset.Ports) == 0 {
				list = append(list, addr.IP)
			}
		}
		for _, port := range subset.Ports {
			for _, addr := range subset.Addresses {
				list = append(list, net.JoinHostPort(addr.IP, strconv.Itoa(int(port.Port))))
			}
		}
	}
	return abbreviate(list, none)
}

func (p printing) nodeCells(node *corev1.Node) []any {
	status := "Unknown"
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			status = "NotReady"
			if c.Status == corev1.ConditionTrue {
				status = "Ready"
			}
		}
	}
	if node.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	info := node.Status.NodeInfo
	return []any{
		node.Name, status, nodeRoles(node), p.age(node.CreationTimestamp), info.KubeletVersion,
		nodeAddress(node, corev1.NodeInternalIP), nodeAddress(node, corev1.NodeExternalIP),
		cmp.Or(info.OSImage, unknown), cmp.Or(info.KernelVersion, unknown), cmp.Or(info.ContainerRuntimeVersion, unknown),
	}
}

// nodeAddress returns the first address of a type.
func nodeAddress(node *corev1.Node, typ corev1.NodeAddressType) string {
	for _, a := range node.Status.Addresses {
		if a.Type == typ {
			return a.Address
		}
	}
	return none
}

func nodeRoles(node *corev1.Node) string {
	var roles []string
	for label := range node.Labels {
		if role, ok := strings.CutPrefix(label, "node-role.kubernetes.io/"); ok && role != "" {
			roles = append(roles, role)
		}
	}
	slices.Sort(roles)
	return cmp.Or(strings.Join(roles, ","), none)
}

func (p printing) eventCells(ev *corev1.Event) []any {
	object := strings.ToLower(ev.InvolvedObject.Kind)
	if ev.InvolvedObject.Name != "" {
		object += "/" + ev.InvolvedObject.Name
	}
	count := max(ev.Count, 1)
	if ev.Series != nil {
		count = ev.Series.Count
	}
	first := ev.FirstTimestamp
	if first.IsZero() {
		first = metav1.Time(ev.EventTime)
	}
	return []any{
		p.since(lastSeen(ev)), ev.Type, ev.Reason, object, ev.InvolvedObject.FieldPath, eventSource(ev),
		strings.TrimSpace(ev.Message), p.age(first), strconv.Itoa(int(count)), ev.Name,
	}
}

// eventSource says who has reported ev: what, and where.
func eventSource(ev *corev1.Event) string {
	component, instance := ev.Source.Component, ev.Source.Host
	if component == "" && instance == "" {
		component, instance = ev.ReportingController, ev.ReportingInstance
	}
	if instance == "" {
		return component
	}
	return component + ", " + instance
}

// lastSeen returns when ev happened last.
func lastSeen(ev *corev1.Event) time.Time {
	switch {
	case ev.Series != nil:
		return ev.Series.LastObservedTime.Time
	case !ev.LastTimestamp.IsZero():
		return ev.LastTimestamp.Time
	case !ev.FirstTimestamp.IsZero():
		return ev.FirstTimestamp.Time
	}
	return ev.EventTime.Time
}

// parentRef says what an address or a port belongs to.
func parentRef(ref *networkingv1.ParentReference) string {
	if ref == nil {
		return none
	}
	part := strings.ToLower(ref.Resource)
	if ref.Group != "" {
		part += "." + ref.Group
	}
	if ref.Namespace != "" {
		part += "/" + ref.Namespace
	}
	return part + "/" + ref.Name
}
