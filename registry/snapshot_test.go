package registry

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestSnapshotIsStable(t *testing.T) {
	s := NewStore()
	s.Replace(1, objects(t, 1, payment))
	before := s.Snapshot()
	s.Apply(2, []Write{{Key: Key{Services, "finance", "payment-service"}}})
	if before.Service("finance", "payment-service") == nil || before.Revision() != 1 {
		t.Error("a Snapshot changed under its reader")
	}
	if now := s.Snapshot(); now.Service("finance", "payment-service") != nil || now.Revision() != 2 {
		t.Error("the deletion is not in the new Snapshot")
	}
}

func TestSnapshotLookups(t *testing.T) {
	s := NewStore()
	s.Replace(1, objects(t, 1, payment+"\n---\n"+pod("a", "10.1.0.5", "")+"\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: finance}"))
	snap := s.Snapshot()
	if !snap.HasNamespace("finance") || snap.HasNamespace("fin") {
		t.Error("HasNamespace")
	}
	if svc := snap.ServiceByIP(mustAddr("10.96.143.7")); svc == nil || svc.Name != "payment-service" {
		t.Errorf("ServiceByIP: %v", svc)
	}
	if svc := snap.ServiceByIP(mustAddr("10.96.143.70")); svc != nil { // which begins in the same way
		t.Errorf("ServiceByIP of nobody's address: %v", svc)
	}
	n := 0
	for p := range snap.PodsByIP(mustAddr("10.1.0.5")) {
		n++
		if p.Name != "a" {
			t.Errorf("PodsByIP: %s", p.Name)
		}
	}
	if n != 1 {
		t.Errorf("PodsByIP found %d", n)
	}
	n = 0
	for range snap.List(Pods, "fin") {
		n++
	}
	if n != 0 {
		t.Error("List of a namespace gave objects of one with a longer name")
	}
	if f := snap.Frontend(FrontendKey{mustAddr("10.96.143.7"), 80, corev1.ProtocolTCP}); f == nil || len(f.Backends) != 1 || f.Backends[0].Pod != "a" {
		t.Errorf("Frontend: %+v", f)
	}
}

// TestServiceByIP checks that a Service is found by its ClusterIP, has it
// Frontends or not, and nobody by an address that is its own in no such way.
func TestServiceByIP(t *testing.T) {
	s := NewStore()
	s.SetLocal(Local{Addresses: []netip.Prefix{netip.MustParsePrefix("10.96.0.1/32"), netip.MustParsePrefix("192.0.2.1/32")}})
	service := func(name, labels, spec string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: b, labels: {%s}}\nspec: {%s}\n---\n", name, labels, spec)
	}
	s.Replace(1, objects(t, 1, strings.TrimSuffix(
		service("a", "", "clusterIP: 10.96.0.1, ports: [{port: 80}]")+
			service("aa", "", "clusterIP: 10.96.0.10, ports: [{port: 80}]")+
			service("both", "", "clusterIP: 10.96.0.2, clusterIPs: [10.96.0.2, 'fd00::2'], ports: [{port: 80, protocol: UDP}]")+
			service("out", "service.kubernetes.io/service-proxy-name: other", "clusterIP: 10.96.0.3, ports: [{port: 80}]")+
			service("sctp", "", "clusterIP: 10.96.0.4, ports: [{port: 80, protocol: SCTP}]")+
			service("mixed", "", "clusterIP: 10.96.0.5, ports: [{name: x, port: 80, protocol: SCTP}, {name: z, port: 81}]")+
			service("headless", "", "clusterIP: None, ports: [{port: 80}]")+
			service("thief", "", "clusterIP: 10.96.0.6, externalIPs: [10.96.0.1, 192.0.2.1], ports: [{port: 79}]"), "\n---\n")))
	for ip, want := range map[string]string{
		"10.96.0.1": "a", "10.96.0.10": "aa", "10.96.0.2": "both", "fd00::2": "both", "10.96.0.3": "out",
		"10.96.0.4": "sctp", "10.96.0.5": "mixed", "10.96.0.6": "thief", "10.96.0.7": "", "192.0.2.1": "", "fd00::20": "",
	} {
		got := ""
		if svc := s.Snapshot().ServiceByIP(mustAddr(ip)); svc != nil {
			got = svc.Name
		}
		if got != want {
			t.Errorf("%s is of %q, want %q", ip, got, want)
		}
	}
}

// An address may be written in several ways, and a Pod counts once in a family.
func TestPodAddresses(t *testing.T) {
	s := NewStore()
	s.Replace(1, objects(t, 1, payment+"\n---"+pod("a", "10.1.0.5", "")+"\n---"+pod("b", `"FD00:0::1"`, "")))
	found := 0
	for range s.Snapshot().PodsByIP(mustAddr("fd00::1")) {
		found++
	}
	if found != 1 {
		t.Errorf("%d Pods at fd00::1", found)
	}
	several := objects(t, 2, pod("a", "10.1.0.5", ""))[0].(*corev1.Pod)
	several.Status.PodIPs = []corev1.PodIP{{IP: "10.1.0.5"}, {IP: "10.1.0.6"}} // by hand in etcd
	s.Apply(2, writes([]Object{several}))
	if got := frontends(s.Snapshot()); strings.Contains(got, "10.1.0.6") || !strings.Contains(got, "10.1.0.5") {
		t.Errorf("the frontends are\n%s", got)
	}
}
