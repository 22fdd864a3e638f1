package api

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// warnings returns the texts of the Warning headers of an answer.
func warnings(t *testing.T, got reply) []string {
	t.Helper()
	list, errs := utilnet.ParseWarningHeaders(got.header.Values("Warning"))
	if len(errs) > 0 {
		t.Error(errs)
	}
	var texts []string
	for _, w := range list {
		texts = append(texts, w.Text)
		if w.Code != 299 || w.Agent != "-" {
			t.Errorf("warning %+v", w)
		}
	}
	return texts
}

func TestWarnings(t *testing.T) {
	h := newRegistryServer(t).Handler()
	const manifest = `{"metadata":{"name":"a"},"spec":{%s,"ports":[{"port":80}]}}`
	svc := fmt.Sprintf(manifest, `"externalName":"a.b","trafficDistribution":"PreferClose"`)
	want := []string{`spec.externalName is ignored when spec.type is not "ExternalName"`,
		`spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"`}
	for _, got := range []reply{
		do(t, h, "POST", financeServices+"?dryRun=All", svc, 201),
		do(t, h, "POST", financeServices, svc, 201),
		do(t, h, "PUT", financeServices+"/a", svc, 200),
	} {
		if diff := cmp.Diff(want, warnings(t, got)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	for _, got := range []reply{
		do(t, h, "GET", financeServices+"/a", "", 200),
		do(t, h, "PUT", financeServices+"/a", fmt.Sprintf(manifest, `"type":"ClusterIP"`), 200),
		do(t, h, "POST", financeServices, svc, 409),
	} {
		if list := warnings(t, got); len(list) > 0 {
			t.Errorf("warnings %q", list)
		}
	}
	const deprecated = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
	for _, url := range []string{"/api/v1/endpoints", "/api/v1/namespaces/finance/endpoints", "/api/v1/namespaces/finance/endpoints/none"} {
		if diff := cmp.Diff([]string{deprecated}, warnings(t, ask(t, h, "GET", url, ""))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", url, diff)
		}
	}
}

// TestWarningsEnd checks that an object with much to say of it does not make
// headers that no client reads.
func TestWarningsEnd(t *testing.T) {
	h := make(map[string][]string)
	warn(h, []string{"a", "b", "a"})
	if diff := cmp.Diff([]string{`299 - "a"`, `299 - "b"`}, h["Warning"]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprint(i)+strings.Repeat("ä", 1000))
	}
	clear(h)
	warn(h, many)
	total := 0
	for _, header := range h["Warning"] {
		n := utf8.RuneCountInString(header) - len(`299 - ""`)
		if n > 256 {
			t.Errorf("a warning of %d characters", n)
		}
		total += n
	}
	if total != 4096 {
		t.Errorf("%d characters, want 4096", total)
	}
}

// TestWarningsOfAll checks that the bound is one for all who have something to
// say of a request.
func TestWarningsOfAll(t *testing.T) {
	h := newRegistryServer(t).Handler()
	var fields []string
	for i := range 30 {
		fields = append(fields, fmt.Sprintf(`"f%d%s":1`, i, strings.Repeat("x", 200)))
	}
	url := "/api/v1/namespaces/finance/endpoints"
	got := do(t, h, "POST", url, `{"metadata":{"name":"a"},`+strings.Join(fields, ",")+`}`, 201)
	list, total := warnings(t, got), 0
	for _, text := range list {
		total += utf8.RuneCountInString(text)
	}
	if !strings.HasPrefix(list[0], "v1 Endpoints is deprecated") || total != maxWarnings {
		t.Errorf("%d characters from %q on, want %d", total, list[0], maxWarnings)
	}
}
