package dns

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"usher/registry"
)

func TestMain(m *testing.M) {
	if arg := os.Getenv(roleAsker); arg != "" {
		os.Exit(askers(arg))
	}
	goleak.VerifyTestMain(m)
}

const fixtureRevision = 7

var serviceCIDR = netip.MustParsePrefix("10.96.0.0/16")

// fixtureObjects is a small registry with one Service of each sort.
func fixtureObjects() []registry.Object {
	return []registry.Object{
		namespace("default"), namespace("finance"), namespace("kube-system"), namespace("empty"),
		service("default/kubernetes", "10.96.0.1", "https 443/TCP"),
		service("kube-system/kube-dns", "10.96.0.10", "dns 53/UDP", "dns-tcp 53/TCP"),
		service("finance/payment-service", "10.96.143.7", "http 80/TCP", "metrics 9090/TCP"),
		slice("finance/payment-service", "http 8080/TCP", "127.244.0.1", "127.244.0.2 pod-b", "127.244.0.3 pod-c unready"),
		service("finance/unnamed", "10.96.143.8", "80/TCP"),
		service("finance/noports", "10.96.143.9"),
		service("finance/dual", "10.96.143.10,fd00:10:96::5", "http 80/TCP"),
		service("finance/only6", "fd00:10:96::6", "http 80/TCP"),

		service("finance/db", "None", "pg 5432/TCP", "stats 9187/TCP"),
		slice("finance/db", "pg 15432/TCP,stats 19187/TCP", "172.18.0.4 db-0", "172.18.0.5 db-1", "172.18.0.6", "172.18.0.7 db-3 unready"),
		service("finance/db6", "None", "pg 5432/TCP"),
		slice("finance/db6", "pg 5432/TCP", "5678:abcd::1", "5678:abcd::"),
		service("finance/twins", "None", "http 80/TCP"),
		slice("finance/twins", "http 80/TCP", "172.18.1.1 same", "172.18.1.2 same"),
		service("finance/starting", "None", "http 80/TCP"),
		slice("finance/starting", "http 80/TCP", "172.18.2.1 unready"),
		service("finance/portless", "None"),
		slice("finance/portless", "", "172.18.3.1"),
		service("finance/split", "None", "http 80/TCP", "admin 81/TCP"),
		slice("finance/split", "http 8080/TCP", "172.18.4.1 s-0"),
		slicePart("b", slice("finance/split", "admin 8081/TCP", "172.18.4.1 s-0")),

		external("finance/stripe", "api.stripe.com"),
		external("finance/alias", "payment-service.finance.svc.cluster.local"),
		external("finance/alias2", "alias.finance.svc.cluster.local"),
		external("finance/gone", "missing.finance.svc.cluster.local"),
		external("finance/loop-a", "loop-b.finance.svc.cluster.local"),
		external("finance/loop-b", "loop-a.finance.svc.cluster.local"),
		external("finance/self", "self.finance.svc.cluster.local"),
		external("finance/literal", "192.0.2.1"),
		external("finance/host", "localhost"),
		pod("finance/worker", corev1.PodRunning, "10.240.0.1", "fd00:240::1"),
		pod("finance/starting", corev1.PodPending, "10.240.0.2"),
		pod("finance/done", corev1.PodSucceeded, "10.240.0.3"),
		pod("finance/crashed", corev1.PodFailed, "10.240.0.4"),
		pod("finance/unscheduled", corev1.PodPending),
		service("orphan/api", "10.96.143.20", "80/TCP"), // its namespace has no object
	}
}

func fixture(t testing.TB) *registry.Store {
	t.Helper()
	store := registry.NewStore()
	store.Replace(fixtureRevision, fixtureObjects())
	return store
}

func namespace(name string) registry.Object {
	ns := registry.Namespaces.New()
	ns.SetName(name)
	return ns
}

// service makes a Service out of "namespace/name", its ClusterIPs, and ports
// such as "http 80/TCP".
func service(id, clusterIPs string, ports ...string) *corev1.Service {
	svc := registry.Services.New().(*corev1.Service)
	svc.Namespace, svc.Name, _ = strings.Cut(id, "/")
	svc.Spec.Type = corev1.ServiceTypeClusterIP
	svc.Spec.ClusterIPs = strings.Split(clusterIPs, ",")
	svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	for _, p := range ports {
		name, number, protocol := splitPort(p)
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: name, Port: number, Protocol: protocol})
	}
	return svc
}

func external(id, target string) *corev1.Service {
	svc := registry.Services.New().(*corev1.Service)
	svc.Namespace, svc.Name, _ = strings.Cut(id, "/")
	svc.Spec.Type = corev1.ServiceTypeExternalName
	svc.Spec.ExternalName = target
	return svc
}

// slice makes an EndpointSlice of a Service out of ports joined by commas, and
// endpoints such as "172.18.0.4", "172.18.0.4 hostname", "172.18.0.4 unready",
// "172.18.0.4 pod=db-0".
func slice(service, ports string, endpoints ...string) *discoveryv1.EndpointSlice {
	s := registry.EndpointSlices.New().(*discoveryv1.EndpointSlice)
	s.Namespace, s.Name, _ = strings.Cut(service, "/")
	s.Labels = map[string]string{discoveryv1.LabelServiceName: s.Name}
	for p := range strings.SplitSeq(ports, ",") {
		if p != "" {
			name, number, protocol := splitPort(p)
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &protocol})
		}
	}
	for _, text := range endpoints {
		fields := strings.Fields(text)
		e := discoveryv1.Endpoint{Addresses: fields[:1]}
		for _, f := range fields[1:] {
			if name, ok := strings.CutPrefix(f, "pod="); ok {
				e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: s.Namespace, Name: name}
			} else if f == "unready" {
				e.Conditions.Ready = new(false)
			} else {
				e.Hostname = &f
			}
		}
		s.AddressType = discoveryv1.AddressTypeIPv4
		if strings.Contains(fields[0], ":") {
			s.AddressType = discoveryv1.AddressTypeIPv6
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// slicePart makes s another slice of the same Service.
func slicePart(part string, s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	s.Name += "-" + part
	return s
}

// pod makes a Pod out of "namespace/name" and its addresses.
func pod(id string, phase corev1.PodPhase, ips ...string) *corev1.Pod {
	p := registry.Pods.New().(*corev1.Pod)
	p.Namespace, p.Name, _ = strings.Cut(id, "/")
	p.Status.Phase = phase
	for _, ip := range ips {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
		p.Status.PodIP = ips[0]
	}
	return p
}

func splitPort(text string) (name string, number int32, protocol corev1.Protocol) {
	fields := strings.Fields(text)
	n, p, _ := strings.Cut(fields[len(fields)-1], "/")
	for _, c := range n {
		number = number*10 + c - '0'
	}
	if len(fields) == 2 {
		name = fields[0]
	}
	return name, number, corev1.Protocol(p)
}

// anyIP is the View in which Services have their ClusterIPs.
func anyIP() View {
	return View{
		Name: "anyip", Addr: netip.MustParseAddrPort("10.96.0.10:53"),
		Address:   func(a netip.Addr) netip.Addr { return a },
		ClusterIP: func(a netip.Addr) (netip.Addr, bool) { return a, serviceCIDR.Contains(a) },
	}
}

// loopback is the View in which 10.96.x.y is 127.96.x.y, and ports under 1024
// are 8000 up.
func loopback() View {
	twins := netip.MustParsePrefix("127.96.0.0/16")
	return View{
		Name: "loopback", Addr: netip.MustParseAddrPort("127.96.0.10:53"),
		Address: func(a netip.Addr) netip.Addr {
			if !serviceCIDR.Contains(a) {
				return netip.Addr{}
			}
			b := a.As4()
			return netip.AddrFrom4([4]byte{127, 96, b[2], b[3]})
		},
		ClusterIP: func(a netip.Addr) (netip.Addr, bool) {
			if !twins.Contains(a) {
				return netip.Addr{}, false
			}
			b := a.As4()
			return netip.AddrFrom4([4]byte{10, 96, b[2], b[3]}), true
		},
		Port: func(k registry.FrontendKey) uint16 {
			if k.Port < 1024 {
				return k.Port + 8000
			}
			return k.Port
		},
	}
}

// A row is a question and what it gets, in zone-file text, a record a line.
type row struct {
	Question          string // "name. TYPE"
	Rcode             string // if "", NOERROR
	Answer, Ns, Extra string
	Next              string // the name left to an upstream
	Forward           bool   // the whole question is
}

// soa is the SOA of the fixture for a zone.
func soa(apex string) string {
	return apex + " 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5"
}

func question(t testing.TB, text string) dns.Question {
	t.Helper()
	name, typeName, _ := strings.Cut(text, " ")
	qtype, ok := dns.StringToType[typeName]
	if !ok {
		t.Fatalf("question %q has no known type", text)
	}
	return dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}
}

// zoneText writes records in zone-file text, sorted, so that their order and
// spacing do not matter.
func zoneText(rrs []dns.RR) []string {
	var lines []string
	for _, rr := range rrs {
		lines = append(lines, rr.String())
	}
	slices.Sort(lines)
	return lines
}

func parseZone(t testing.TB, text string) []dns.RR {
	t.Helper()
	var rrs []dns.RR
	text = strings.ReplaceAll(text, "\t", "") // a line that begins with space has no owner
	p := dns.NewZoneParser(strings.NewReader(text), "", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		rrs = append(rrs, rr)
	}
	if err := p.Err(); err != nil {
		t.Fatalf("zone text %q: %v", text, err)
	}
	return rrs
}

// run puts the rows to a Server over store as seen in view.
func run(t *testing.T, s *Server, view View, rows []row) {
	t.Helper()
	snap := s.store.Snapshot()
	for _, want := range rows {
		t.Run(want.Question, func(t *testing.T) {
			a, ours := s.Resolve(snap, view, question(t, want.Question))
			if ours == want.Forward {
				t.Fatalf("ours = %v, want %v", ours, !want.Forward)
			}
			if want.Rcode == "" {
				want.Rcode = "NOERROR"
			}
			if diff := cmp.Diff(want.Rcode, dns.RcodeToString[a.Rcode]); diff != "" {
				t.Errorf("rcode (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want.Next, a.Next); diff != "" {
				t.Errorf("next name (-want +got):\n%s", diff)
			}
			for _, section := range []struct {
				name, want string
				got        []dns.RR
			}{{"answer", want.Answer, a.Answer}, {"authority", want.Ns, a.Ns}, {"additional", want.Extra, a.Extra}} {
				if diff := cmp.Diff(zoneText(parseZone(t, section.want)), zoneText(section.got)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", section.name, diff)
				}
			}
		})
	}
}
