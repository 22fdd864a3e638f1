package registry

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// onHost says that a machine has loopback, and one address in a network.
var onHost = Local{
	Node:      "here",
	Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::7/128")},
	NodePorts: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("::1")},
}

// TestPlaces checks at which addresses a Service is served, and by which of
// its endpoints: one is on this node and one is not.
func TestPlaces(t *testing.T) {
	const (
		here, both = " 10.1.0.1:1 draining:10.1.0.2:1", " 10.1.0.1:1 10.1.0.2:1"
		nodePort   = `[{port: 80, targetPort: 8080, nodePort: 30001}]`
	)
	balancer := func(ingress string) string {
		return "\nstatus: {loadBalancer: {ingress: [" + ingress + "]}}"
	}
	tests := []struct {
		name, ips, spec, ports, more string
		want                         []string
	}{
		{"ClusterIP", "", "", "", "", []string{"10.96.143.7:80/TCP" + both}},
		{"NodePort", "", "type: NodePort", nodePort, "",
			[]string{"10.96.143.7:80/TCP" + both, "127.0.0.1:30001/TCP" + both, "192.0.2.7:30001/TCP" + both}},
		{"NodePort, external Local", "", "type: NodePort; externalTrafficPolicy: Local", nodePort, "",
			[]string{"10.96.143.7:80/TCP" + both, "127.0.0.1:30001/TCP" + here, "192.0.2.7:30001/TCP" + here}},
		{"NodePort, internal Local", "", "type: NodePort; internalTrafficPolicy: Local", nodePort, "",
			[]string{"10.96.143.7:80/TCP" + here, "127.0.0.1:30001/TCP" + both, "192.0.2.7:30001/TCP" + both}},
		{"NodePort of two protocols", "", "type: NodePort", `[{name: a, port: 80, nodePort: 30001}, {name: b, port: 80, nodePort: 30001, protocol: UDP}]`, "",
			[]string{"10.96.143.7:80/TCP", "10.96.143.7:80/UDP", "127.0.0.1:30001/TCP", "127.0.0.1:30001/UDP", "192.0.2.7:30001/TCP", "192.0.2.7:30001/UDP"}},
		{"load balancer", "", "type: LoadBalancer; externalTrafficPolicy: Local", "", balancer("{ip: 127.97.0.5}"),
			[]string{"10.96.143.7:80/TCP" + both, "127.97.0.5:80/TCP" + here}},
		{"load balancer elsewhere", "", "type: LoadBalancer", "", balancer("{ip: 192.0.2.8}, {hostname: a.example}"), []string{"10.96.143.7:80/TCP" + both}},
		{"load balancer that is a proxy", "", "type: LoadBalancer", "", balancer("{ip: 192.0.2.7, ipMode: Proxy}"), []string{"10.96.143.7:80/TCP" + both}},
		{"external IPs", "", "externalIPs: [192.0.2.7, 192.0.2.8, 192.0.2.7]", "", "",
			[]string{"10.96.143.7:80/TCP" + both, "192.0.2.7:80/TCP" + both}},
		{"external IPs, external Local", "", "externalIPs: [192.0.2.7]; externalTrafficPolicy: Local", "", "",
			[]string{"10.96.143.7:80/TCP" + both, "192.0.2.7:80/TCP" + here}},
		{"one address twice", "", "type: LoadBalancer; externalIPs: [192.0.2.7]", "", balancer("{ip: 192.0.2.7}"),
			[]string{"10.96.143.7:80/TCP" + both, "192.0.2.7:80/TCP" + both}},
		{"headless", "None", "type: NodePort; externalIPs: [192.0.2.7]", nodePort, "", nil},
		{"two families", `10.96.143.7, "fd00::7"`, "type: NodePort", nodePort, "",
			[]string{"10.96.143.7:80/TCP" + both, "127.0.0.1:30001/TCP" + both, "192.0.2.7:30001/TCP" + both, "[::1]:30001/TCP", "[fd00::7]:80/TCP"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := strings.Replace(payment, "selector: {app: payment}", strings.ReplaceAll(tt.spec, "; ", "\n  "), 1) + tt.more
			if tt.ips != "" {
				svc = strings.Replace(svc, "clusterIP: 10.96.143.7", "clusterIP: "+strings.Split(tt.ips, ",")[0], 1)
				svc = strings.Replace(svc, "[10.96.143.7]", "["+tt.ips+"]", 1)
			}
			if tt.ports != "" {
				svc = strings.Replace(svc, "[{port: 80, targetPort: 8080}]", tt.ports, 1)
			}
			s := NewStore()
			s.SetLocal(onHost)
			s.Replace(1, objects(t, 1, svc+"\n---\n"+sliceOf("one", "{addresses: [10.1.0.1], nodeName: here}", "{addresses: [10.1.0.2], nodeName: there}")))
			got := strings.NewReplacer(" finance/payment-service:a", "", " finance/payment-service:b", "", " finance/payment-service", "").Replace(frontends(s.Snapshot()))
			if diff := cmp.Diff(strings.Join(tt.want, "\n"), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestSharedPlaces has Services that want the same address: none can take away
// what another has by a better right, and what is given up goes to the next.
func TestSharedPlaces(t *testing.T) {
	s := NewStore()
	s.SetLocal(onHost)
	named := func(name, ip, more string) string {
		return strings.NewReplacer("payment-service", name, "10.96.143.7", ip, "selector: {app: payment}", more).Replace(payment)
	}
	s.Replace(1, nil)
	revision := int64(1)
	step := func(want string, documents ...string) {
		t.Helper()
		revision++
		var list []Write
		for _, doc := range documents {
			if name, gone := strings.CutPrefix(doc, "-"); gone {
				list = append(list, Write{Key: Key{Services, "finance", name}})
			} else {
				list = append(list, writes(objects(t, revision, doc))...)
			}
		}
		s.Apply(revision, list)
		if diff := cmp.Diff(want, frontends(s.Snapshot())); diff != "" {
			t.Errorf("revision %d (-want +got):\n%s", revision, diff)
		}
		for _, name := range []string{"a", "b", "c"} {
			for f := range s.Snapshot().ServiceFrontends("finance", name) {
				if !strings.Contains(want, f.String()+" finance/"+name) {
					t.Errorf("revision %d: %s is said to be at %s", revision, name, f)
				}
			}
		}
	}
	step("10.96.0.2:80/TCP finance/b\n192.0.2.7:80/TCP finance/b", named("b", "10.96.0.2", "externalIPs: [192.0.2.7]"))
	step("10.96.0.1:80/TCP finance/a\n10.96.0.2:80/TCP finance/b\n192.0.2.7:80/TCP finance/a", named("a", "10.96.0.1", "externalIPs: [192.0.2.7]"))
	step("10.96.0.2:80/TCP finance/b\n192.0.2.7:80/TCP finance/b", "-a")
	step("10.96.0.2:80/TCP finance/b\n192.0.2.7:80/TCP finance/c", named("c", "192.0.2.7", ""))
	step("192.0.2.7:80/TCP finance/c", "-b")
	step("", "-c")
}

// TestAddressesChange gives the machine other addresses.
func TestAddressesChange(t *testing.T) {
	s := NewStore()
	s.SetLocal(Local{Node: "here"})
	svc := strings.NewReplacer("selector:", "type: NodePort\n  externalIPs: [192.0.2.7]\n  selector:", "8080}", "8080, nodePort: 30001}").Replace(payment)
	s.Replace(1, objects(t, 1, svc))
	if got := frontends(s.Snapshot()); got != "10.96.143.7:80/TCP finance/payment-service" {
		t.Errorf("without addresses: %s", got)
	}
	w := s.WatchFrom(s.Snapshot())
	s.SetLocal(onHost)
	s.SetLocal(onHost)
	commits, err := w.Next(t.Context())
	if err != nil || len(commits) != 1 || len(commits[0].Frontends) != 3 || len(commits[0].Objects) != 0 || commits[0].Revision != 1 {
		t.Errorf("%+v, %v; want one commit of three Frontends at the present revision", commits, err)
	}
	s.SetLocal(Local{Node: "here"})
	if got := frontends(s.Snapshot()); got != "10.96.143.7:80/TCP finance/payment-service" {
		t.Errorf("without addresses again: %s", got)
	}
}
