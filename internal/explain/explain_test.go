package explain

import (
	"cmp"
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"usher/internal/api"
	"usher/internal/dns"
	"usher/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const objects = `
kind: Namespace
metadata: {name: default}
---
kind: Namespace
metadata: {name: finance}
---
kind: Service
metadata: {name: payment-service, namespace: finance}
spec: {clusterIP: 10.96.0.42, selector: {app: payment}, ports: [{name: http, port: 80, targetPort: 8080}, {name: metrics, port: 9090}, {name: dns, port: 53, protocol: UDP}]}
---
kind: Pod
metadata: {name: p, namespace: finance, labels: {app: payment}}
spec: {containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 10.1.0.5, conditions: [{type: Ready, status: "True"}]}
---
kind: Service
metadata: {name: lonely, namespace: finance}
spec: {clusterIP: 10.96.0.43, selector: {app: pay}, ports: [{port: 80}]}
---
kind: Service
metadata: {name: starting, namespace: finance}
spec: {clusterIP: 10.96.0.44, selector: {state: new}, ports: [{port: 80}, {name: udp, port: 80, protocol: UDP}]}
---
kind: Pod
metadata: {name: q, namespace: finance, labels: {state: new}}
spec: {containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 10.1.0.6}
---
kind: Service
metadata: {name: bare}
spec: {clusterIP: 10.96.0.45, ports: [{port: 80}]}
---
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, ports: [{port: 80, targetPort: 8080}]}
---
kind: Endpoints
metadata: {name: headless}
subsets: [{addresses: [{ip: 10.1.0.7}], ports: [{port: 8080}]}]
---
kind: Service
metadata: {name: stripe}
spec: {type: ExternalName, externalName: api.stripe.com}
---
kind: Service
metadata: {name: literal}
spec: {type: ExternalName, externalName: 192.0.2.1}
---
kind: Service
metadata: {name: blocked}
spec: {clusterIP: 10.96.0.50, ports: [{port: 8080}]}
---
kind: Endpoints
metadata: {name: blocked}
subsets: [{addresses: [{ip: 10.1.0.8}], ports: [{port: 8080}]}]
---
kind: Service
metadata: {name: other, labels: {service.kubernetes.io/service-proxy-name: x}}
spec: {clusterIP: 10.96.0.51, ports: [{port: 80}]}
---
kind: Service
metadata: {name: outside}
spec: {clusterIP: 10.97.0.1, ports: [{port: 8080}]}
---
kind: Endpoints
metadata: {name: outside}
subsets: [{addresses: [{ip: 10.1.0.8}], ports: [{port: 8080}]}]
---
kind: Service
metadata: {name: exposed, namespace: finance}
spec: {type: NodePort, clusterIP: 10.96.0.52, externalIPs: [192.0.2.8], selector: {app: payment}, ports: [{port: 80, nodePort: 30080}]}
`

// parts returns Parts over the objects: with one View, in which 10.96.x.y is
// 127.96.x.y, and ports under 1024 are moved. Node ports are at an external IP too.
func parts(t *testing.T) *Parts {
	t.Helper()
	store := registry.NewStore()
	store.SetLocal(registry.Local{
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, NodePorts: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.8")},
	})
	var list []registry.Object
	for doc := range strings.SplitSeq(objects, "\n---\n") {
		var meta struct{ Kind string }
		if err := yaml.Unmarshal([]byte(doc), &meta); err != nil {
			t.Fatal(err)
		}
		kind := registry.KindFor(schema.GroupVersionKind{Version: "v1", Kind: meta.Kind})
		obj, err := registry.DecodeStrict(kind, []byte("apiVersion: v1\n"+doc))
		if err != nil {
			t.Fatal(err)
		}
		if kind.Namespaced {
			obj.SetNamespace(cmp.Or(obj.GetNamespace(), "default"))
		}
		registry.SetDefaults(obj)
		list = append(list, obj)
	}
	store.Replace(1, list)
	twin := func(from, to byte) func(netip.Addr) (netip.Addr, bool) {
		return func(addr netip.Addr) (netip.Addr, bool) {
			raw := addr.As4()
			if raw[0] != from || raw[1] != 96 {
				return netip.Addr{}, false
			}
			raw[0] = to
			return netip.AddrFrom4(raw), true
		}
	}
	local := twin(10, 127)
	moved := func(key registry.FrontendKey) uint16 {
		if key.Port < 1024 {
			return key.Port + 8000
		}
		return key.Port
	}
	return &Parts{
		Store: store, Domain: "cluster.local", Search: func() []string { return []string{"corp.example"} },
		DNS: dns.New(dns.Options{
			Store:     store,
			Upstreams: func() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")} },
		}),
		Views: []dns.View{{
			Name: "loopback", ClusterIP: twin(127, 10), Port: moved,
			Address: func(ip netip.Addr) netip.Addr { addr, _ := local(ip); return addr },
		}},
		Listen: func(key registry.FrontendKey) []netip.AddrPort {
			if addr, ok := local(key.Address); ok {
				return []netip.AddrPort{netip.AddrPortFrom(addr, moved(key))}
			}
			if key.Address.As4()[0] == 10 {
				return nil
			}
			return []netip.AddrPort{key.AddrPort()} // a node port, or an external IP
		},
		Failed: func(f *registry.Frontend, addr netip.AddrPort) string {
			if f.Service.Name == "blocked" {
				return "cannot listen on " + addr.String()
			}
			return ""
		},
		Next: func(key registry.FrontendKey) (registry.Backend, bool) {
			f := store.Snapshot().Frontend(key)
			if f == nil || len(f.Backends) == 0 {
				return registry.Backend{}, false
			}
			return f.Backends[0], true
		},
	}
}

func TestConclusion(t *testing.T) {
	p := parts(t)
	const ours = "; the name is asked of upstream nameservers"
	tests := []struct {
		question string // ABOUT TARGET [TYPE]
		works    bool
		want     string
		advice   string
	}{
		{"tcp payment-service.finance:80", true, "1 of 1 endpoint can be used", ""},
		{"tcp payment-service.finance:metrics", true, "1 of 1 endpoint can be used", ""},
		{"tcp payment-service.finance.svc:8080", true, "1 of 1 endpoint can be used", ""}, // where port 80 is in the View
		{"udp payment-service.finance.svc.cluster.local", true, "1 of 1 endpoint can be used", ""},
		{"tcp 10.96.0.42:http", true, "1 of 1 endpoint can be used", ""},
		{"tcp 127.96.0.42:8080", true, "1 of 1 endpoint can be used", ""},
		{"tcp 127.96.0.42:9090", true, "1 of 1 endpoint can be used", ""},
		{"tcp 10.96.0.52:80", true, "1 of 1 endpoint can be used", ""},
		{"tcp 127.96.0.52:8080", true, "1 of 1 endpoint can be used", ""},
		{"tcp 127.0.0.1:30080", true, "1 of 1 endpoint can be used", ""},
		{"tcp 192.0.2.8:80", true, "1 of 1 endpoint can be used", ""},
		{"tcp PAYMENT-service.finance:80", true, "1 of 1 endpoint can be used", ""},

		{"tcp payment-service.finance", false, "a port is needed: finance/payment-service has http 80/TCP, metrics 9090/TCP", "finance/payment-service has the ports: http 80/TCP, metrics 9090/TCP, dns 53/UDP"},
		{"tcp payment-service.finance:81", false, `service "payment-service" has no TCP port 81: connections are refused`, "finance/payment-service has the ports: http 80/TCP, metrics 9090/TCP, dns 53/UDP"},
		{"tcp 10.96.0.42:8080", false, `service "payment-service" has no TCP port 8080: connections are refused`, "8080 is the targetPort, of the pods; clients connect to port 80\nfinance/payment-service has the ports: http 80/TCP, metrics 9090/TCP, dns 53/UDP"},
		{"tcp 127.96.0.42:80", false, `connections are refused: port 80 of service "payment-service" is at 127.96.0.42:8080 there`, "finance/payment-service has the ports: http 80/TCP, metrics 9090/TCP, dns 53/UDP"},
		{"tcp 10.96.0.52:30080", false, `service "exposed" has no TCP port 30080: connections are refused`, "finance/exposed has the ports: 80/TCP"},
		{"tcp 127.96.0.52:30080", false, `service "exposed" has no TCP port 30080: connections are refused`, "finance/exposed has the ports: 80/TCP"},
		{"udp payment-service.finance:80", false, `service "payment-service" has no UDP port 80: connections are refused`, "finance/payment-service has the ports: dns 53/UDP, http 80/TCP, metrics 9090/TCP"},

		{"tcp payment-service:80", false, `services "payment-service" not found in namespace "default"` + ours, `namespace "finance" has a service of that name: payment-service.finance`},
		{"tcp paymet-service.finance:80", false, `services "paymet-service" not found in namespace "finance"` + ours, "did you mean the service payment-service?"},
		{"tcp payment-service.fiance:80", false, `namespaces "fiance" not found` + ours, "did you mean the namespace finance?\n" + `namespace "finance" has a service of that name: payment-service.finance`},
		{"tcp example.com:443", false, `namespaces "com" not found` + ours, ""},
		{"tcp localhost:80", true, "localhost. is no name of a Service: connections go to its address, and usher has no part in them", ""},
		{"tcp svc.cluster.local.:80", false, "svc.cluster.local. exists, and has no address", ""},
		{"tcp 10.96.9.9:80", false, "10.96.9.9 is the address of no Service", ""},
		{"tcp 10.1.0.5:8080", true, `10.1.0.5 is the address of pod "p" in namespace "finance": connections go there, and usher has no part in them`, ""},

		{"tcp lonely.finance:80", false, `connections are refused: the selector app=pay matches no pods in namespace "finance"`, "pods there have app=payment"},
		{"tcp starting.finance:80", false, "connections are refused: the selector matches 1 pod, and none can be used", ""},
		{"udp starting.finance:80", false, "connections are refused: the selector matches 1 pod, and none can be used", ""},
		{"tcp bare", false, "connections are refused: the service has no selector, no EndpointSlice with the label kubernetes.io/service-name=bare, and no Endpoints of its name", "give it a selector, or an EndpointSlice with the label kubernetes.io/service-name=bare"},
		{"tcp headless:80", true, "the service is headless: clients connect to the addresses of 1 endpoint themselves", "there is no proxy to make port 80 the targetPort 8080: clients have to ask for that"},
		{"tcp stripe:443", true, "the service is an ExternalName for api.stripe.com, which upstream nameservers know: clients connect there themselves", ""},
		{"tcp literal:443", false, "the service is an ExternalName for 192.0.2.1, of which nothing is known: the externalName is no name", ""},
		{"tcp blocked:8080", false, "nothing listens: cannot listen on 127.96.0.50:8080", ""},
		{"tcp outside:8080", false, "nothing listens: the daemon has no View in which the address is visible", ""},
		{"tcp other:80", false, "connections are refused: the label service.kubernetes.io/service-proxy-name takes the Service out of the proxy", ""},

		{"dns payment-service.finance", true, "payment-service.finance.svc.cluster.local. is answered with 1 record", ""},
		{"dns payment-service.finance TXT", false, "payment-service.finance.svc.cluster.local. exists, and has no record of the type TXT", ""},
		{"dns 127.96.0.42", true, "42.0.96.127.in-addr.arpa. is answered with 1 record", ""},
		{"dns example.com", true, "example.com. is no name of usher's: upstream nameservers are asked", ""},
		{"dns nope.finance", false, `services "nope" not found in namespace "finance"` + ours, ""},
		{"dns nope.finance.svc.cluster.local.", false, `services "nope" not found in namespace "finance"`, ""},
		{"dns stripe CNAME", true, "stripe.default.svc.cluster.local. is answered with 1 record", ""},
		{"dns stripe A", true, "stripe.default.svc.cluster.local. is an alias of api.stripe.com., which upstream nameservers know", ""},
		{"dns literal", false, "literal.default.svc.cluster.local. does not exist: the externalName is no name", ""},
	}
	for _, tt := range tests {
		words := append(strings.Fields(tt.question), "")
		e, err := p.Explain(api.Question{About: words[0], Target: words[1], Type: words[2], Namespace: "default"})
		if err != nil {
			t.Errorf("%s: %v", tt.question, err)
			continue
		}
		if e.Works != tt.works || e.Conclusion != tt.want {
			t.Errorf("%s:\ngot  %v: %s\nwant %v: %s", tt.question, e.Works, e.Conclusion, tt.works, tt.want)
		}
		if advice := strings.Join(e.Advice, "\n"); advice != tt.advice {
			t.Errorf("%s: advice %q, want %q", tt.question, advice, tt.advice)
		}
	}
}

// What is on the way is told as well.
func TestSteps(t *testing.T) {
	p := parts(t)
	e, err := p.Explain(api.Question{About: "tcp", Target: "payment-service.finance:80", Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Names) != 2 || e.Names[0].Rcode != "NXDOMAIN" || e.Names[0].Why == "" || len(e.Names[1].Records) != 1 ||
		e.Names[1].Records[0] != (api.ViewRecord{View: "loopback", Record: "payment-service.finance.svc.cluster.local. 5 IN A 127.96.0.42"}) {
		t.Errorf("names %+v", e.Names)
	}
	if e.Service != "finance/payment-service" || e.ServiceType != "ClusterIP" || e.Port != "http 80/TCP, targetPort 8080" || len(e.Frontends) != 1 {
		t.Fatalf("%+v", e)
	}
	f := e.Frontends[0]
	if f.Address != "10.96.0.42:80/TCP" || f.Next != "10.1.0.5:8080" || len(f.Endpoints) != 1 || !f.Endpoints[0].Used {
		t.Errorf("frontend %+v", f)
	}
	if want := (api.ListenerReport{View: "loopback", Address: "127.96.0.42:8080", Moved: true}); len(f.Listeners) != 1 || f.Listeners[0] != want {
		t.Errorf("listeners %+v", f.Listeners)
	}
	if e, _ = p.Explain(api.Question{About: "udp", Target: "starting.finance:80", Namespace: "default"}); e.Frontends[0].Listeners[0].Error == "" {
		t.Error("a UDP socket is open without an endpoint")
	}
}

// A resolver tries the search path first, unless the name has many dots.
func TestCandidates(t *testing.T) {
	p := parts(t)
	for name, want := range map[string]string{
		"web":          "web.ns.svc.cluster.local. web.svc.cluster.local. web.cluster.local. web.corp.example. web.",
		"web.":         "web.",
		"a.b.c.d.e.f":  "a.b.c.d.e.f. a.b.c.d.e.f.ns.svc.cluster.local. a.b.c.d.e.f.svc.cluster.local. a.b.c.d.e.f.cluster.local. a.b.c.d.e.f.corp.example.",
		"a.b.c.d.e.f.": "a.b.c.d.e.f.",
	} {
		e := &explainer{Parts: p, Explanation: api.Explanation{Question: api.Question{Namespace: "ns"}}}
		if got := strings.Join(e.candidates(name), " "); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestSenseless(t *testing.T) {
	p := parts(t)
	for _, q := range []api.Question{
		{About: "tcp", Namespace: "default"}, {About: "sctp", Target: "a:1", Namespace: "default"}, {About: "tcp", Target: "a:1"},
		{About: "tcp", Target: "a:b:c", Namespace: "default"}, {About: "tcp", Target: ":80", Namespace: "default"},
		{About: "tcp", Target: "a..b:80", Namespace: "default"}, {About: "dns", Target: "a", Type: "NOPE", Namespace: "default"},
	} {
		if e, err := p.Explain(q); err == nil {
			t.Errorf("%+v was explained: %+v", q, e)
		}
	}
}
