package registry

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// explain returns the Trace of the first port of payment-service, as text.
func explain(s *Snapshot) string {
	svc := s.Service("finance", "payment-service")
	trace := s.Explain(svc, svc.Spec.Ports[0])
	var out strings.Builder
	if trace.Why != "" {
		fmt.Fprintln(&out, "no frontends:", trace.Why)
	}
	write := func(verdicts []Verdict) {
		for _, v := range verdicts {
			mark := "-"
			if v.Used {
				mark = "+"
			}
			fmt.Fprintln(&out, strings.Join(strings.Fields(strings.Join([]string{mark, v.Address, v.Pod, v.Reason}, " ")), " "))
		}
	}
	for _, f := range trace.Frontends {
		write(f.Endpoints)
	}
	write(trace.Endpoints)
	return out.String()
}

func TestExplain(t *testing.T) {
	const service = `
apiVersion: v1
kind: Service
metadata: {name: payment-service, namespace: finance%s}
spec: {clusterIP: %s, ipFamilies: [IPv4]%s, ports: [{name: http, port: 80, protocol: %s, targetPort: web}]}`
	svc := func(labels, ip, more, protocol string) string {
		return fmt.Sprintf(service, labels, ip, more, protocol)
	}
	pod := func(name, ip, status, more string) string {
		return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: finance, labels: {app: payment}%s}
spec: {nodeName: there, containers: [{name: c, image: i, ports: [{name: web, containerPort: 8080}]}]}
status: {podIP: %q, %s}`, name, more, ip, status)
	}
	slice := func(name, more string) string {
		return fmt.Sprintf(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %s, namespace: finance, labels: {kubernetes.io/service-name: payment-service}}
%s`, name, more)
	}
	event := func(name, uid, reason, at, message string) string {
		return fmt.Sprintf(`
apiVersion: v1
kind: Event
metadata: {name: %s, namespace: finance}
involvedObject: {kind: Pod, name: a, namespace: finance, uid: %s}
reason: %s
lastTimestamp: "2026-01-01T00:%sZ"
message: "%s"`, name, uid, reason, at, message)
	}
	const (
		probed   = `phase: Running, conditions: [{type: Ready, status: "False", reason: ContainersNotReady}]`
		ready    = `phase: Running, conditions: [{type: Ready, status: "True"}]`
		unready  = `phase: Running, conditions: [{type: Ready, status: "False", reason: R, message: "the database is away"}]`
		deleted  = `, deletionTimestamp: "2026-01-01T00:00:00Z"`
		selector = ", selector: {app: payment}"
	)
	tests := []struct {
		name      string
		documents []string
		want      string
	}{
		{"pods", []string{
			svc("", "10.96.0.5", selector, "TCP"), pod("a", "10.1.0.1", ready, ""), pod("b", "10.1.0.2", unready, ""),
			pod("c", "10.1.0.3", ready, deleted), pod("d", "10.1.0.4", "phase: Failed", ""), pod("e", "", "phase: Pending", ""),
			pod("f", "fd00::1", ready, ""), pod("g", "10.1.0.5", "phase: Pending", ""), pod("h", "10.1.0.6", unready, deleted),
		}, `
+ 10.1.0.1:8080 a
- 10.1.0.2:8080 b not ready: the database is away
- 10.1.0.3:8080 c terminating
- 10.1.0.5:8080 g not ready: the pod has not started
- 10.1.0.6:8080 h terminating, and serves no more
- 10.1.0.4 d the pod has ended (Failed)
- e the pod has no address yet
- fd00::1 f the pod has no address of a family of the Service`},
		{"failed probes", []string{
			svc("", "10.96.0.5", selector, "TCP"), pod("a", "10.1.0.1", probed, ", uid: u"), pod("b", "10.1.0.2", probed, ", uid: w"),
			event("e1", "u", "Unhealthy", "00:02", "Readiness probe failed: 503\\n"), event("e2", "u", "Unhealthy", "00:01", "older"), event("e3", "w", "Killing", "00:03", "other"),
		}, `
- 10.1.0.1:8080 a not ready: Readiness probe failed: 503
- 10.1.0.2:8080 b not ready: ContainersNotReady`},
		{"terminating ones alone", []string{svc("", "10.96.0.5", selector, "TCP"), pod("c", "10.1.0.3", ready, deleted)}, `
+ 10.1.0.3:8080 c terminating, and none is ready`},
		{"traffic policy", []string{
			svc("", "10.96.0.5", selector+", internalTrafficPolicy: Local", "TCP"), pod("a", "10.1.0.1", ready, ""),
		}, `
- 10.1.0.1:8080 a not on this node, and the traffic policy is Local`},
		{"named port of another protocol", []string{svc("", "10.96.0.5", selector, "UDP"), pod("a", "10.1.0.1", ready, "")}, `
- 10.1.0.1 a the pod has no UDP port "web"`},
		{"headless", []string{svc("", "None", selector, "TCP"), pod("a", "10.1.0.1", ready, ""), pod("b", "10.1.0.2", unready, "")}, `
+ 10.1.0.1:8080 a
- 10.1.0.2:8080 b not ready: the database is away`},
		{"slices", []string{
			svc("", "10.96.0.5", "", "TCP"),
			slice("s-x", "addressType: IPv4\nports: [{name: http, port: 1}]\nendpoints: [{addresses: [10.1.0.1], conditions: {terminating: true, ready: false}}]"),
			slice("s-y", "addressType: IPv4\nports: [{name: http, port: 1}]\nendpoints: [{addresses: [10.1.0.1]}, {addresses: [oops]}]"),
			slice("s-z", "addressType: IPv4\nports: [{name: https, port: 2}]\nendpoints: [{addresses: [10.1.0.2]}]"),
			slice("s-z6", "addressType: IPv6\nports: [{name: http, port: 1}]\nendpoints: [{addresses: [\"fd00::1\"]}]"),
		}, `
+ 10.1.0.1:1
- 10.1.0.1:1 the same address is in slice s-y
- oops its address cannot be read
- 10.1.0.2 its slice has no TCP port "http"
- fd00::1 its address is of the family IPv6, which the Service does not have`},
		{"hints", []string{
			svc("", "10.96.0.5", "", "TCP"), inZone("here", "a"),
			slice("s-x", "addressType: IPv4\nports: [{name: http, port: 1}]\nendpoints: [{addresses: [10.1.0.1], hints: {forZones: [{name: a}]}}, {addresses: [10.1.0.2], hints: {forZones: [{name: b}]}}]"),
		}, `
+ 10.1.0.1:1
- 10.1.0.2:1 meant for zone b by its hints`},
		{"two addresses of a node", []string{
			strings.Replace(svc("", "10.96.0.5", selector+", type: NodePort", "TCP"), "port: 80,", "port: 80, nodePort: 30080,", 1),
			strings.Replace(pod("a", "10.1.0.1", ready, ""), "name: web", "name: other", 1),
		}, `
- 10.1.0.1 a the pod has no TCP port "web"
- 10.1.0.1 a the pod has no TCP port "web"
- 10.1.0.1 a the pod has no TCP port "web"`},
		{"names", []string{
			strings.Replace(svc("", "None", "", "TCP"), "[IPv4]", "[IPv4, IPv6]", 1),
			slice("s-x", "addressType: FQDN\nports: [{name: http, port: 1}]\nendpoints: [{addresses: [a.example.org]}]"),
		}, `
- a.example.org its address is of the family FQDN, which the Service does not have`},
		{"label", []string{svc(", labels: {service.kubernetes.io/service-proxy-name: x}", "10.96.0.5", selector, "TCP")}, `
no frontends: the label service.kubernetes.io/service-proxy-name takes the Service out of the proxy`},
		{"SCTP", []string{svc("", "10.96.0.5", selector, "SCTP")}, `
no frontends: SCTP is stored and not proxied`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewStore()
			s.SetLocal(Local{Node: "here", NodePorts: []netip.Addr{mustAddr("127.0.0.1"), mustAddr("127.0.0.2")}})
			s.Replace(1, objects(t, 1, strings.Join(tt.documents, "\n---")))
			got := explain(s.Snapshot())
			if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n")+"\n", got); diff != "" {
				t.Errorf("the trace differs (-want +got):\n%s", diff)
			}
			checkTrace(t, s.Snapshot())
		})
	}
}

// checkTrace checks that a Trace and the Frontends of a Commit agree.
func checkTrace(t *testing.T, s *Snapshot) {
	t.Helper()
	svc := s.Service("finance", "payment-service")
	for _, f := range s.Explain(svc, svc.Spec.Ports[0]).Frontends {
		var used []string
		for _, v := range f.Endpoints {
			if v.Used {
				used = append(used, v.Address)
			}
		}
		var backends []string
		for _, b := range s.Frontend(f.FrontendKey).Backends {
			backends = append(backends, b.Address.String())
		}
		if !slices.Equal(used, backends) {
			t.Errorf("%s: the trace has %v in use, the Store %v", f.FrontendKey, used, backends)
		}
	}
}
