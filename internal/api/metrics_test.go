package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"usher/registry"
)

// What a client makes up does not become a label.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	store := registry.NewStore()
	store.Replace(9, nil)
	s := New(Options{Store: store, Registerer: reg})
	defer s.Close()
	for _, url := range []string{"/api/v1/services", "/api/v1/services", "/api/v1/namespaces/a/pods/x", "/made/up", "/api/v1/made-up", "/version"} {
		ask(t, s.Handler(), "GET", url, "")
	}
	ask(t, s.Handler(), "PATCH", "/api/v1/namespaces/a/pods/x", "")
	ask(t, s.Handler(), "MADE-UP", "/api/v1/namespaces/a/pods/x", "")
	w := openWatch(t, s.Handler(), "/api/v1/services?watch=1&timeoutSeconds=1")
	if got := gather(t, reg, "usher_api_watches"); got[0] != " 1" {
		t.Errorf("open watches: %v", got)
	}
	w.end()
	want := []string{
		"code=200 resource=services verb=list 2",
		"code=200 resource=services verb=watch 1",
		"code=200 resource=version verb=get 1",
		"code=404 resource=other verb=other 2",
		"code=404 resource=pods verb=get 1",
		"code=405 resource=other verb=other 1",
		"code=503 resource=pods verb=patch 1",
	}
	if diff := cmp.Diff(want, gather(t, reg, "usher_api_requests_total")); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	for _, line := range gather(t, reg, "usher_api_request_duration_seconds") {
		if strings.Contains(line, "verb=watch") {
			t.Errorf("the time of a watch is counted: %s", line)
		}
	}
	if got := gather(t, reg, "usher_api_watches"); got[0] != " 0" {
		t.Errorf("open watches: %v", got)
	}
}

// gather returns the values of a metric, a line each.
func gather(t *testing.T, reg *prometheus.Registry, name string) []string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			value := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			lines = append(lines, fmt.Sprintf("%s %v", strings.Join(labels, " "), value))
		}
	}
	slices.Sort(lines)
	return lines
}
