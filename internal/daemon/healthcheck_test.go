package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"usher/registry"
)

// put writes objects given as YAML to a Store.
func put(t *testing.T, s *registry.Store, documents ...string) {
	t.Helper()
	revision := s.Snapshot().Revision() + 1
	var writes []registry.Write
	for _, doc := range documents {
		var meta struct{ Kind string }
		if err := yaml.Unmarshal([]byte(doc), &meta); err != nil {
			t.Fatal(err)
		}
		kind := registry.Kinds[slices.IndexFunc(registry.Kinds, func(k *registry.Kind) bool { return k.Kind == meta.Kind })]
		obj, err := registry.DecodeStrict(kind, []byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		registry.SetDefaults(obj)
		obj.SetResourceVersion(fmt.Sprint(revision))
		writes = append(writes, registry.Write{Key: registry.KeyOf(obj), Object: obj})
	}
	s.Apply(revision, writes)
}

// balancedAt is a Service that has a health check.
func balancedAt(port int, more string) string {
	return fmt.Sprintf(`
kind: Service
apiVersion: v1
metadata: {name: web, namespace: finance%s}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: %d, clusterIP: 10.96.0.5, ports: [{port: 80}]}`, more, port)
}

func webSlice(endpoints string) string {
	return `
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: web, namespace: finance, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 1}, {name: other, port: 2}]
endpoints: [` + endpoints + `]`
}

// freePort returns a port of loopback that is free, and a listener that has it.
func freePort(t *testing.T) (int, net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port, l
}

func newTestChecks(s *registry.Store) (h *healthChecks, events *[]string) {
	events = new([]string)
	return &healthChecks{
		store: s, node: "here", log: slog.New(slog.DiscardHandler),
		addresses: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("127.0.0.1")} },
		healthy:   func() bool { return true },
		event:     func(svc *corev1.Service, reason, message string) { *events = append(*events, reason+": "+message) },
		checks:    make(map[types.NamespacedName]*healthCheck), failing: make(map[types.NamespacedName]bool),
	}, events
}

var web = map[types.NamespacedName]bool{{Namespace: "finance", Name: "web"}: true}

func health(t *testing.T, port int) string {
	t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
	if err != nil {
		return "refused"
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	h := resp.Header
	return fmt.Sprintf("%d %s %s %s\n%s", resp.StatusCode, h.Get("Content-Type"), h.Get("X-Content-Type-Options"),
		h.Get("X-Load-Balancing-Endpoint-Weight"), body)
}

// TestHealthCheck is "should implement NodePort and HealthCheckNodePort
// correctly when ExternalTrafficPolicy changes" and "should fail health check
// node port if there are only terminating endpoints".
func TestHealthCheck(t *testing.T) {
	s := registry.NewStore()
	s.Replace(1, nil)
	h, events := newTestChecks(s)
	defer func() {
		put(t, s, strings.Replace(balancedAt(1, ""), "externalTrafficPolicy: Local", "externalTrafficPolicy: Cluster", 1))
		h.look(maps.Clone(web))
	}()
	port, taken := freePort(t)
	taken.Close()
	answer := func(code, count int, healthy bool) string {
		return fmt.Sprintf("%d application/json nosniff %d\n{\n\t\"service\": {\n\t\t\"namespace\": \"finance\",\n\t\t\"name\": \"web\"\n\t},\n"+
			"\t\"localEndpoints\": %d,\n\t\"serviceProxyHealthy\": %v\n}", code, count, count, healthy)
	}
	healthy := true
	h.healthy = func() bool { return healthy }
	for _, step := range []struct{ name, service, endpoints, want string }{
		{"none", balancedAt(port, ""), "", answer(503, 0, true)},
		{"two addresses here", balancedAt(port, ""),
			`{addresses: [10.1.0.1], nodeName: here}, {addresses: [10.1.0.2], nodeName: here}, {addresses: [10.1.0.3], nodeName: there}`, answer(200, 2, true)},
		{"terminating", balancedAt(port, ""), `{addresses: [10.1.0.1], nodeName: here, conditions: {ready: false, serving: true, terminating: true}}`, answer(503, 0, true)},
		{"somebody else's", balancedAt(port, ", labels: {service.kubernetes.io/service-proxy-name: x}"), "", "refused"},
		{"ours again", balancedAt(port, ""), "", answer(503, 0, true)},
		{"policy Cluster", strings.Replace(balancedAt(port, ""), "Policy: Local", "Policy: Cluster", 1), "", "refused"},
	} {
		put(t, s, step.service, webSlice(step.endpoints))
		h.look(maps.Clone(web))
		if diff := cmp.Diff(step.want, health(t, port)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	healthy = false
	put(t, s, balancedAt(port, ""), webSlice(`{addresses: [10.1.0.1], nodeName: here}`))
	h.look(maps.Clone(web))
	if diff := cmp.Diff(answer(503, 1, false), health(t, port)); diff != "" {
		t.Errorf("the proxy is not healthy (-want +got):\n%s", diff)
	}
	// The Service goes to another port, and goes away.
	other, taken := freePort(t)
	taken.Close()
	put(t, s, balancedAt(other, ""))
	h.look(maps.Clone(web))
	if got := health(t, port); got != "refused" {
		t.Errorf("at the old port: %s", got)
	}
	s.Apply(s.Snapshot().Revision()+1, []registry.Write{{Key: registry.Key{Kind: registry.Services, Namespace: "finance", Name: "web"}}})
	h.look(maps.Clone(web))
	if got := health(t, other); got != "refused" {
		t.Errorf("after the Service is gone: %s", got)
	}
	if len(*events) > 0 {
		t.Errorf("events %q", *events)
	}
}

// TestHealthCheckPortInUse has a program at the port, and addresses that change.
func TestHealthCheckPortInUse(t *testing.T) {
	s := registry.NewStore()
	s.Replace(1, nil)
	h, events := newTestChecks(s)
	port, taken := freePort(t)
	put(t, s, balancedAt(port, ""), webSlice(`{addresses: [10.1.0.1], nodeName: here}`))
	h.look(maps.Clone(web))
	h.look(maps.Clone(web))
	want := []string{fmt.Sprintf(`FailedToStartServiceHealthcheck: node here failed to start healthcheck "finance/web" on port %d: listen tcp 127.0.0.1:%d: bind: %v`,
		port, port, syscall.EADDRINUSE)}
	if diff := cmp.Diff(want, *events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if len(h.failing) != 1 || h.wait != minRetry {
		t.Errorf("%d fail, to be tried in %v", len(h.failing), h.wait)
	}
	taken.Close()
	h.look(maps.Clone(h.failing))
	if got := health(t, port); !strings.HasPrefix(got, "200 ") || len(h.failing) != 0 {
		t.Errorf("the port is free: %s", got)
	}
	h.addresses = func() []netip.Addr { return nil }
	h.look(make(map[types.NamespacedName]bool))
	if got := health(t, port); got != "refused" {
		t.Errorf("at no address: %s", got)
	}
}
