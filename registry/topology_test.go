package registry

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// inZone returns the Node of that name.
func inZone(name, zone string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Node
metadata: {name: %s, labels: {topology.kubernetes.io/zone: %q}}`, name, zone)
}

// sliceOf returns an EndpointSlice of payment-service with endpoints as YAML.
func sliceOf(name string, endpoints ...string) string {
	return fmt.Sprintf(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %s, namespace: finance, labels: {kubernetes.io/service-name: payment-service}}
addressType: IPv4
ports: [{port: 1}]
endpoints: [%s]`, name, strings.Join(endpoints, ", "))
}

// TestChooseBackends has the rows of kube-proxy's CategorizeEndpoints. The e2e
// tests are "should respect internalTrafficPolicy=Local Pod to Pod", "should
// support externalTrafficPolicy=Local for type=NodePort", "should fallback to
// (local) terminating endpoints when there are no ready endpoints with …", and
// those of traffic_distribution.go.
func TestChooseBackends(t *testing.T) {
	const (
		ready       = `conditions: {ready: true}`
		unready     = `conditions: {ready: false, serving: false}`
		terminating = `conditions: {ready: false, serving: true, terminating: true}`
		dying       = `conditions: {ready: false, serving: false, terminating: true}`
	)
	at := func(n int, node, more string) string {
		return fmt.Sprintf(`{addresses: [10.1.0.%d], nodeName: %s, %s}`, n, node, more)
	}
	hints := func(zone, node string) string {
		return fmt.Sprintf(`hints: {forZones: [%s], forNodes: [%s]}`, wrap(zone), wrap(node))
	}
	const local = "internalTrafficPolicy: Local"
	tests := []struct {
		name, spec string
		endpoints  []string
		want       string
	}{
		{"all", "", []string{at(1, "here", ready), at(2, "there", ready), at(3, "there", unready)}, " 10.1.0.1:1 10.1.0.2:1"},
		{"ready before terminating", "", []string{at(1, "here", terminating), at(2, "there", ready), at(3, "there", dying)}, " 10.1.0.2:1 draining:10.1.0.1:1"},
		{"terminating", "", []string{at(1, "here", terminating), at(2, "there", unready), at(3, "there", dying)}, " 10.1.0.1:1"},
		{"nothing serves", "", []string{at(1, "here", dying), at(2, "there", unready)}, ""},
		{"local", local, []string{at(1, "here", ready), at(2, "there", ready), at(3, "here", terminating)}, " 10.1.0.1:1 draining:10.1.0.2:1 draining:10.1.0.3:1"},
		{"local: terminating here before ready elsewhere", local, []string{at(1, "here", terminating), at(2, "there", ready)}, " 10.1.0.1:1 draining:10.1.0.2:1"},
		{"local: terminating elsewhere", local, []string{at(1, "here", dying), at(2, "there", terminating)}, " draining:10.1.0.2:1"},
		{"local: none here", local, []string{at(1, "there", ready)}, " draining:10.1.0.1:1"},
		{"local: of no node", local, []string{`{addresses: [10.1.0.1]}`}, " draining:10.1.0.1:1"},
		{"local comes before hints", local, []string{at(1, "here", hints("b", "there"))}, " 10.1.0.1:1"},

		{"zone", "", []string{at(1, "here", hints("a", "")), at(2, "there", hints("b", "")), at(3, "there", hints("a", ""))}, " 10.1.0.1:1 10.1.0.3:1 draining:10.1.0.2:1"},
		{"zone: one has no hint", "", []string{at(1, "here", hints("a", "")), at(2, "there", ready)}, " 10.1.0.1:1 10.1.0.2:1"},
		{"zone: none for here", "", []string{at(1, "there", hints("b", "")), at(2, "there", hints("c", ""))}, " 10.1.0.1:1 10.1.0.2:1"},
		{"zone: who is not ready has no say", "", []string{at(1, "here", hints("a", "")), at(2, "there", hints("b", "")), at(3, "there", unready)}, " 10.1.0.1:1 draining:10.1.0.2:1"},
		{"zone: terminating ones have none", "", []string{at(1, "there", terminating), at(2, "there", terminating+", "+hints("b", ""))}, " 10.1.0.1:1 10.1.0.2:1"},
		{"zone: drains wherever", "", []string{at(1, "here", hints("a", "")), at(2, "there", terminating)}, " 10.1.0.1:1 draining:10.1.0.2:1"},
		{"node", "", []string{at(1, "here", hints("a", "here")), at(2, "there", hints("a", "there"))}, " 10.1.0.1:1 draining:10.1.0.2:1"},
		{"node: none for here, the zone is next", "", []string{at(1, "x", hints("a", "x")), at(2, "there", hints("b", "there"))}, " 10.1.0.1:1 draining:10.1.0.2:1"},
		{"node: one has no hint, the zone is next", "", []string{at(1, "here", hints("a", "here")), at(2, "x", hints("a", "")), at(3, "there", hints("b", "there"))}, " 10.1.0.1:1 10.1.0.2:1 draining:10.1.0.3:1"},
		{"node: and no zone", "", []string{at(1, "x", hints("", "x")), at(2, "there", hints("", "there"))}, " 10.1.0.1:1 10.1.0.2:1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewStore()
			s.SetLocal(Local{Node: "here"})
			svc := strings.Replace(payment, "selector: {app: payment}", tt.spec, 1)
			s.Replace(1, objects(t, 1, svc+"\n---\n"+inZone("here", "a")+"\n---\n"+sliceOf("one", tt.endpoints...)))
			want := "10.96.143.7:80/TCP finance/payment-service" + tt.want
			if diff := cmp.Diff(want, frontends(s.Snapshot())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func wrap(name string) string {
	if name == "" {
		return ""
	}
	return "{name: " + name + "}"
}

// TestUnproxiedSlices is "should implement service.kubernetes.io/headless" for
// slices, and the same for those of another proxy.
func TestUnproxiedSlices(t *testing.T) {
	s := NewStore()
	s.SetLocal(Local{Node: "here"})
	svc := strings.Replace(payment, "selector: {app: payment}", "", 1)
	label := func(name, label string) string {
		return strings.Replace(sliceOf(name, "{addresses: [10.1.0.9], nodeName: here}"), "labels: {", "labels: {"+label+": x, ", 1)
	}
	s.Replace(1, objects(t, 1, strings.Join([]string{svc, sliceOf("one", "{addresses: [10.1.0.1], nodeName: here}"),
		label("two", "service.kubernetes.io/headless"), label("three", "service.kubernetes.io/service-proxy-name")}, "\n---\n")))
	if diff := cmp.Diff("10.96.143.7:80/TCP finance/payment-service 10.1.0.1:1", frontends(s.Snapshot())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := s.Snapshot().LocalEndpoints("finance", "payment-service", "here"); n != 1 {
		t.Errorf("%d local endpoints, want 1", n)
	}
}

// TestTrafficDistribution checks the hints of derived slices, and what comes of
// them on nodes in different places.
func TestTrafficDistribution(t *testing.T) {
	for _, tt := range []struct {
		mode, annotation string
		hints            string // of the Pods a, b, c as zone/node
		here, there      string // the Pods that are used there
	}{
		{"", "", "- - -", "a b c", "a b c"},
		{"PreferSameZone", "", "a b b", "a", "b c"},
		{"PreferClose", "", "a b b", "a", "b c"},
		{"PreferSameNode", "", "a/here b/there b/far", "a", "b"},
		{"PreferSameZone", "service.kubernetes.io/topology-mode: Auto", "- - -", "a b c", "a b c"},
		{"PreferSameZone", "service.kubernetes.io/topology-aware-hints: auto", "- - -", "a b c", "a b c"},
		{"PreferSameZone", "service.kubernetes.io/topology-mode: Disabled", "a b b", "a", "b c"},
	} {
		t.Run(tt.mode+" "+tt.annotation, func(t *testing.T) {
			svc := strings.Replace(payment, "namespace: finance", "namespace: finance, annotations: {"+tt.annotation+"}", 1)
			if tt.mode != "" {
				svc = strings.Replace(svc, "selector:", "trafficDistribution: "+tt.mode+"\n  selector:", 1)
			}
			on := func(name string, n int, node string) string {
				return strings.Replace(pod(name, fmt.Sprintf("10.1.0.%d", n), ""), "spec: {", "spec: {nodeName: "+node+", ", 1)
			}
			unready := strings.Replace(on("d", 4, "here"), `"True"`, `"False"`, 1)
			list := objects(t, 1, strings.Join([]string{svc, on("a", 1, "here"), on("b", 2, "there"), on("c", 3, "far"), unready,
				inZone("here", "a"), inZone("there", "b"), inZone("far", "b")}, "\n---\n"))
			for node, want := range map[string]string{"here": tt.here, "there": tt.there} {
				s := NewStore()
				s.SetLocal(Local{Node: node})
				s.Replace(1, list)
				if diff := cmp.Diff(tt.hints+" -", hintsOf(s.Snapshot())); diff != "" {
					t.Errorf("hints (-want +got):\n%s", diff)
				}
				if got := podsOf(s.Snapshot(), "10.96.143.7:80"); got != want {
					t.Errorf("on %s: Pods %q, want %q", node, got, want)
				}
			}
		})
	}
}

func hintsOf(s *Snapshot) string {
	var list []string
	for slice := range s.EndpointSlices("finance", "payment-service") {
		for _, e := range slice.Endpoints {
			text := "-"
			if e.Hints != nil {
				text = ""
				for _, z := range e.Hints.ForZones {
					text += z.Name
				}
				for _, n := range e.Hints.ForNodes {
					text += "/" + n.Name
				}
			}
			list = append(list, text)
		}
	}
	return strings.Join(list, " ")
}

func podsOf(s *Snapshot, at string) string {
	addr := netip.MustParseAddrPort(at)
	f := s.Frontend(FrontendKey{addr.Addr(), addr.Port(), corev1.ProtocolTCP})
	if f == nil {
		return "no Frontend"
	}
	var pods []string
	for _, b := range f.Backends {
		pods = append(pods, b.Pod)
	}
	return strings.Join(pods, " ")
}

// TestZoneChanges moves nodes between zones.
func TestZoneChanges(t *testing.T) {
	s := NewStore()
	s.SetLocal(Local{Node: "here"})
	svc := strings.Replace(payment, "selector:", "trafficDistribution: PreferSameZone\n  selector:", 1)
	other := strings.NewReplacer("payment", "other", "10.96.143.7", "10.96.143.8").Replace(svc)
	on := func(name string, n int, node string) string {
		return strings.Replace(pod(name, fmt.Sprintf("10.1.0.%d", n), ""), "spec: {", "spec: {nodeName: "+node+", ", 1)
	}
	s.Replace(1, objects(t, 1, strings.Join([]string{svc, other, on("a", 1, "one"), on("b", 2, "two"),
		inZone("here", "a"), inZone("one", "a"), inZone("two", "b")}, "\n---\n")))
	check := func(revision int64, node, zone, want string, frontends int) {
		t.Helper()
		w := s.WatchFrom(s.Snapshot())
		s.Apply(revision, writes(objects(t, revision, inZone(node, zone))))
		if got := podsOf(s.Snapshot(), "10.96.143.7:80"); got != want {
			t.Errorf("%s in zone %q: Pods %q, want %q", node, zone, got, want)
		}
		commits, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := len(commits[0].Frontends); n != frontends {
			t.Errorf("%s in zone %q changed %d Frontends, want %d", node, zone, n, frontends)
		}
	}
	check(2, "here", "b", "b", 1)
	check(3, "here", "c", "a b", 1)
	check(4, "two", "c", "b", 1)
	check(5, "two", "c", "b", 0)
	s.Apply(6, []Write{{Key: Key{Nodes, "", "two"}}})
	if got := podsOf(s.Snapshot(), "10.96.143.7:80"); got != "a b" {
		t.Errorf("a node is gone: Pods %q, want all", got)
	}
	// A node changes its name, which no object says.
	s.Apply(7, writes(objects(t, 7, inZone("two", "b"))))
	s.SetLocal(Local{Node: "two"})
	if got := podsOf(s.Snapshot(), "10.96.143.7:80"); got != "b" || s.Snapshot().Revision() != 7 {
		t.Errorf("on two at revision %d: Pods %q, want b", s.Snapshot().Revision(), got)
	}
}
