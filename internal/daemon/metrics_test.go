package daemon

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/dns"
	"usher/proxy"
	"usher/registry"
)

// newTestDaemon returns the parts that are measured, with nothing that runs.
func newTestDaemon(t *testing.T) *daemon {
	t.Helper()
	d := &daemon{store: registry.NewStore(), Options: Options{Version: "v1", Config: &config.Config{
		NodeName: "node-1", ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/24")},
	}}}
	d.kubeProxy = newKubeProxy()
	d.direct = newDirectReports(d.store)
	d.proxy = proxy.New(proxy.Options{Store: d.store, Engine: "portable", Observe: d.kubeProxy.observe})
	d.dns = dns.New(dns.Options{Store: d.store})
	d.writer = api.NewWriter(api.WriterOptions{Store: d.store, ServiceCIDRs: d.ranges()})
	return d
}

// descPattern takes a Desc apart, which says what it is in no other way.
var descPattern = regexp.MustCompile(`fqName: "([^"]*)".*constLabels: {([^}]*)}, variableLabels: {([^}]*)}`)

// TestMetricsAreDocumented checks that docs/metrics.md has what is exported, with
// its labels, and nothing else.
func TestMetricsAreDocumented(t *testing.T) {
	d := newTestDaemon(t)
	r := prometheus.NewPedanticRegistry()
	own := describing{r, make(map[string]string)}
	api.New(api.Options{Store: d.store, Registerer: own})
	own.MustRegister(collectors(d)...)

	data, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented, types := make(map[string]string), make(map[string]string)
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (counter|gauge|histogram) \\|([^|]*)\\| [^|]+ \\|$")
	for _, m := range row.FindAllStringSubmatch(string(data), -1) {
		labels := strings.NewReplacer("`", "", " ", "").Replace(m[3])
		switch labels {
		case "frontend":
			labels = strings.Join(frontendLabels, ",")
		case "backend":
			labels = strings.Join(backendLabels, ",")
		}
		documented[m[1]], types[m[1]] = labels, m[2]
	}
	if diff := cmp.Diff(own.labels, documented); diff != "" {
		t.Errorf("docs/metrics.md (-exported +documented):\n%s", diff)
	}
	families, err := r.Gather()
	if err != nil {
		t.Error(err)
	}
	for _, f := range families {
		if want := types[f.GetName()]; want != "" && want != strings.ToLower(f.GetType().String()) {
			t.Errorf("%s is a %s, and documented as a %s", f.GetName(), f.GetType(), want)
		}
	}
}

// describing is a Registerer that notes the labels of all metrics but those of
// Go and of the process.
type describing struct {
	*prometheus.Registry
	labels map[string]string
}

func (r describing) MustRegister(list ...prometheus.Collector) {
	r.Registry.MustRegister(list...)
	for _, c := range list {
		descs := make(chan *prometheus.Desc)
		go func() {
			defer close(descs)
			c.Describe(descs)
		}()
		for d := range descs {
			m := descPattern.FindStringSubmatch(d.String())
			if m == nil || strings.HasPrefix(m[1], "go_") || strings.HasPrefix(m[1], "process_") {
				continue
			}
			labels := m[3]
			if name, _, ok := strings.Cut(m[2], "="); ok {
				labels = name
			}
			r.labels[m[1]] = labels
		}
	}
}

// TestKubeProxyMetrics checks what a Sync does to the metrics that kube-proxy
// has.
func TestKubeProxyMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKubeProxy()
		k.observe(proxy.Sync{Full: true, Took: 3 * time.Millisecond})
		k.observe(proxy.Sync{Took: time.Millisecond, Services: 1, EndpointSlices: 2, Triggers: []time.Time{time.Now().Add(-1500 * time.Millisecond)}, Headless: []time.Time{time.Now().Add(-1500 * time.Millisecond)}})
		now := time.Now()
		progress := proxy.Progress{Queued: now, Synced: now.Add(-time.Minute), Pending: &proxy.Sync{Services: 3, EndpointSlices: 4}}
		r := prometheus.NewRegistry()
		r.MustRegister(k.collectors(func() proxy.Progress { return progress })...)
		got := gathered(t, r)
		for name, want := range map[string]string{
			"kubeproxy_sync_proxy_rules_duration_seconds":              "2 0.004",
			"kubeproxy_sync_full_proxy_rules_duration_seconds":         "1 0.003",
			"kubeproxy_sync_partial_proxy_rules_duration_seconds":      "1 0.001",
			"kubeproxy_network_programming_duration_seconds":           "1 1.500",
			"coredns_kubernetes_dns_programming_duration_seconds":      "1 1.500",
			"kubeproxy_sync_proxy_rules_service_changes_total":         "1",
			"kubeproxy_sync_proxy_rules_endpoint_changes_total":        "2",
			"kubeproxy_sync_proxy_rules_service_changes_pending":       "3",
			"kubeproxy_sync_proxy_rules_endpoint_changes_pending":      "4",
			"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds": fmt.Sprint(float64(now.UnixNano()) / 1e9),
			"kubeproxy_sync_proxy_rules_last_timestamp_seconds":        fmt.Sprint(float64(now.UnixNano())/1e9 - 60),
		} {
			if got[name] != want {
				t.Errorf("%s is %q, want %q", name, got[name], want)
			}
		}
		if b := programmingBuckets(); len(b) != 80 || b[0] != .25 || b[1] != .5 || b[60] != 59 || b[61] != 60 || b[79] != 300 {
			t.Errorf("buckets of network programming: %v", b)
		}
	})
}

// gathered returns what a registry has, without labels: of histograms their
// count and sum.
func gathered(t *testing.T, r *prometheus.Registry) map[string]string {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, f := range families {
		for _, m := range f.Metric {
			switch {
			case m.Histogram != nil:
				got[f.GetName()] = fmt.Sprintf("%d %.3f", m.Histogram.GetSampleCount(), m.Histogram.GetSampleSum())
			case m.Counter != nil:
				got[f.GetName()] = fmt.Sprint(m.Counter.GetValue())
			default:
				got[f.GetName()] = fmt.Sprint(m.Gauge.GetValue())
			}
		}
	}
	return got
}

// TestHealthz checks the answers of kube-proxy's health check.
func TestHealthz(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDaemon(t)
		progress := proxy.Progress{}
		h := &healthz{progress: func() proxy.Progress { return progress }, eligible: d.nodeEligible, metrics: d.kubeProxy, log: slog.Default()}
		ask := func(path string) (int, map[string]any) {
			w := httptest.NewRecorder()
			h.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			answer := make(map[string]any)
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
				t.Fatalf("%s: %v: %s", path, err, w.Body)
			}
			return w.Code, answer
		}
		start := time.Now()
		progress = proxy.Progress{Queued: start, Synced: start, Pending: &proxy.Sync{}}
		time.Sleep(healthTimeout - time.Second)
		now := time.Now().Format(time.RFC3339Nano)
		state := map[string]any{"lastUpdated": now, "healthy": true}
		want := map[string]any{
			"lastUpdated": now, "currentTime": now, "nodeEligible": true, "healthy": true,
			"status": map[string]any{"IPv4": state, "IPv6": state},
		}
		code, got := ask("/healthz")
		if diff := cmp.Diff(want, got); diff != "" || code != 200 {
			t.Errorf("a change that is not late yet: %d (-want +got):\n%s", code, diff)
		}
		time.Sleep(time.Second)
		for _, path := range []string{"/healthz", "/livez"} {
			code, got := ask(path)
			if code != 503 || got["healthy"] != false || got["lastUpdated"] != start.Format(time.RFC3339Nano) {
				t.Errorf("%s with a change that is late: %d %v", path, code, got)
			}
		}
		progress.Pending = nil
		node := registry.Nodes.New().(*corev1.Node)
		node.Name, node.ResourceVersion = "node-1", "1"
		node.Spec.Taints = []corev1.Taint{{Key: toBeDeletedTaint, Effect: corev1.TaintEffectNoSchedule}}
		d.store.Replace(1, []registry.Object{node})
		if code, got := ask("/healthz"); code != 503 || got["nodeEligible"] != false {
			t.Errorf("/healthz of a node that is to go: %d %v", code, got)
		}
		code, got = ask("/livez")
		if _, there := got["nodeEligible"]; code != 200 || there {
			t.Errorf("/livez of a node that is to go: %d %v", code, got)
		}
		r := prometheus.NewRegistry()
		r.MustRegister(d.kubeProxy.healthz)
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		codes := make(map[string]float64)
		for _, m := range families[0].Metric {
			codes[m.Label[0].GetValue()] = m.Counter.GetValue()
		}
		if diff := cmp.Diff(map[string]float64{"200": 1, "503": 2}, codes); diff != "" {
			t.Errorf("answers by code (-want +got):\n%s", diff)
		}
	})
}

// TestAllocatorGauges checks what is said to be in use.
func TestAllocatorGauges(t *testing.T) {
	d := newTestDaemon(t)
	var claims []registry.Object
	for _, name := range []string{"10.96.0.1", "10.96.0.77", "127.244.0.1"} {
		claim := registry.IPAddresses.New()
		claim.SetName(name)
		claims = append(claims, claim)
	}
	port := registry.NodePorts.New()
	port.SetName("30080")
	d.store.Replace(1, append(claims, port))
	r := prometheus.NewRegistry()
	r.MustRegister(d.writer)
	got := gathered(t, r)
	for name, want := range map[string]string{
		"kube_apiserver_clusterip_allocator_allocated_ips":  "2",
		"kube_apiserver_clusterip_allocator_available_ips":  "252", // of 254: neither the network nor the broadcast address
		"kube_apiserver_nodeport_allocator_allocated_ports": "1",
		"kube_apiserver_nodeport_allocator_available_ports": "2767",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}

// TestNoLocalEndpoints counts Services whose traffic policy leaves them nothing.
func TestNoLocalEndpoints(t *testing.T) {
	d := newTestDaemon(t)
	d.store.SetLocal(registry.Local{Node: "here", NodePorts: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	d.store.Replace(1, nil)
	service := func(name, ip, policy string) string {
		return fmt.Sprintf(`
kind: Service
apiVersion: v1
metadata: {name: %s, namespace: finance}
spec: {clusterIP: %s, %s, ports: [{name: a, port: 80}, {name: b, port: 81}]}`, name, ip, policy)
	}
	slice := func(name, service, node string) string {
		return fmt.Sprintf(`
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: %s, namespace: finance, labels: {kubernetes.io/service-name: %s}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.5], nodeName: %s}]
ports: [{name: a, port: 8080}, {name: b, port: 8081}]`, name, service, node)
	}
	r := prometheus.NewRegistry()
	r.MustRegister(localPolicyCollector{d.store})
	for _, step := range []struct {
		put                []string
		internal, external float64
	}{
		{[]string{service("inner", "10.96.0.5", "internalTrafficPolicy: Local")}, 0, 0}, // it has no endpoints at all
		{[]string{slice("inner", "inner", "there")}, 1, 0},
		{[]string{service("all", "10.96.0.6", "internalTrafficPolicy: Cluster"), slice("all", "all", "there")}, 1, 0},
		{[]string{slice("outer", "outer", "there"), strings.NewReplacer("port: 80", "nodePort: 30080, port: 80", "port: 81", "nodePort: 30081, port: 81").Replace(
			service("outer", "10.96.0.7", "type: NodePort, externalTrafficPolicy: Local"))}, 1, 1},
		{[]string{slice("inner", "inner", "here")}, 0, 1},
	} {
		put(t, d.store, step.put...)
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]float64)
		for _, m := range families[0].Metric {
			got[m.Label[0].GetValue()] = m.Gauge.GetValue()
		}
		if diff := cmp.Diff(map[string]float64{"internal": step.internal, "external": step.external}, got); diff != "" {
			t.Errorf("%.60q (-want +got):\n%s", step.put, diff)
		}
	}
}
