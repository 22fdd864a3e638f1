package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/yaml"

	"usher/internal/client"
	"usher/registry"
)

const unset = "<unset>"

func describeEndpointSlice(p *page, s *discoveryv1.EndpointSlice) {
	describeMeta(p, s)
	p.field(0, "AddressType", string(s.AddressType))
	var ports [][]string
	for _, port := range s.Ports {
		row := []string{unset, unset, string(corev1.ProtocolTCP)}
		if port.Name != nil {
			row[0] = cmp.Or(*port.Name, unset)
		}
		if port.Port != nil {
			row[1] = strconv.Itoa(int(*port.Port))
		}
		if port.Protocol != nil {
			row[2] = string(*port.Protocol)
		}
		ports = append(ports, row)
	}
	p.table(0, "Ports", []string{"Name", "Port", "Protocol"}, ports)
	if len(s.Endpoints) == 0 {
		p.field(0, "Endpoints", "")
		return
	}
	p.line(0, "Endpoints:")
	for i := range s.Endpoints {
		describeEndpoint(p, &s.Endpoints[i])
	}
}

func describeEndpoint(p *page, e *discoveryv1.Endpoint) {
	text := func(s *string) string {
		if s == nil {
			return unset
		}
		return *s
	}
	p.line(1, "- Addresses:", strings.Join(e.Addresses, ", "))
	p.line(2, "Conditions:")
	for _, cond := range []struct {
		name  string
		value *bool
	}{{"Ready", e.Conditions.Ready}, {"Serving", e.Conditions.Serving}, {"Terminating", e.Conditions.Terminating}} {
		if cond.value != nil {
			p.field(3, cond.name, strconv.FormatBool(*cond.value))
		}
	}
	p.field(2, "Hostname", text(e.Hostname))
	if e.TargetRef != nil {
		p.field(2, "TargetRef", e.TargetRef.Kind+"/"+e.TargetRef.Name)
	}
	p.field(2, "NodeName", text(e.NodeName))
	p.field(2, "Zone", text(e.Zone))
}

func describeEndpoints(p *page, e *corev1.Endpoints) {
	describeMeta(p, e)
	if len(e.Subsets) == 0 {
		p.field(0, "Subsets", "")
		return
	}
	p.line(0, "Subsets:")
	for _, subset := range e.Subsets {
		p.field(1, "Addresses", joinAddresses(subset.Addresses))
		p.field(1, "NotReadyAddresses", joinAddresses(subset.NotReadyAddresses))
		var ports [][]string
		for _, port := range subset.Ports {
			ports = append(ports, []string{cmp.Or(port.Name, unset), strconv.Itoa(int(port.Port)), string(port.Protocol)})
		}
		p.table(1, "Ports", []string{"Name", "Port", "Protocol"}, ports)
	}
}

func joinAddresses(addresses []corev1.EndpointAddress) string {
	var ips []string
	for _, a := range addresses {
		ips = append(ips, a.IP)
	}
	return strings.Join(ips, ",")
}

// describeNode writes what usher knows of a Node, and the Pods on it.
func describeNode(ctx context.Context, c *client.Client, p *page, node *corev1.Node) error {
	describeMeta(p, node)
	p.field(0, "CreationTimestamp", timestamp(node.CreationTimestamp))
	var rows [][]string
	for _, cond := range node.Status.Conditions {
		rows = append(rows, []string{string(cond.Type), string(cond.Status), timestamp(cond.LastTransitionTime), cond.Reason, cond.Message})
	}
	p.table(0, "Conditions", []string{"Type", "Status", "LastTransitionTime", "Reason", "Message"}, rows)
	p.line(0, "Addresses:")
	for _, a := range node.Status.Addresses {
		p.field(1, string(a.Type), a.Address)
	}
	info := node.Status.NodeInfo
	p.line(0, "System Info:")
	p.field(1, "Operating System", info.OperatingSystem)
	p.field(1, "Architecture", info.Architecture)
	p.field(1, "Kubelet Version", info.KubeletVersion)
	pods, err := c.List(ctx, registry.Pods, "", client.ListOptions{FieldSelector: "spec.nodeName=" + node.Name})
	if err != nil {
		return err
	}
	var on [][]string
	for _, pod := range pods.Items {
		on = append(on, []string{pod.GetNamespace(), pod.GetName()})
	}
	p.table(0, "Pods", []string{"Namespace", "Name"}, on)
	return nil
}

// describeFields writes an object of another Kind: its fields as YAML.
func describeFields(p *page, obj registry.Object) error {
	describeMeta(p, obj)
	data, err := json.Marshal(obj)
	if err != nil {
		return fmt.Errorf("describe %s: %w", obj.GetName(), err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		return fmt.Errorf("describe %s: %w", obj.GetName(), err)
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if key == "metadata" || key == "kind" || key == "apiVersion" {
			continue
		}
		name := strings.ToUpper(key[:1]) + key[1:]
		if s, ok := fields[key].(string); ok {
			p.field(0, name, s)
			continue
		}
		part, err := yaml.Marshal(fields[key])
		if err != nil {
			return fmt.Errorf("describe %s: %w", obj.GetName(), err)
		}
		p.line(0, name+":")
		for line := range strings.Lines(string(part)) {
			p.line(1, strings.TrimRight(line, "\n"))
		}
	}
	return nil
}
