package api

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestDryRun checks that a dry run answers what the write would have been, and
// leaves nothing.
func TestDryRun(t *testing.T) {
	s := newRegistryServer(t)
	h := s.Handler()
	const dry = "?dryRun=All"
	do(t, h, "POST", financeServices, claimingService("a", "10.96.7.7", ""), 201)
	before := s.opts.Store.Snapshot().Revision()

	created := decode[corev1.Service](t, do(t, h, "POST", financeServices+dry, claimingService("b", "", ""), 201).body)
	if created.Spec.ClusterIP != "10.96.0.0" || created.UID == "" || created.ResourceVersion != "" || created.Spec.Type != "ClusterIP" {
		t.Errorf("create: %+v", created)
	}
	do(t, h, "GET", financeServices+"/b", "", 404)
	do(t, h, "POST", "/api/v1/namespaces/new/services"+dry, claimingService("b", "10.96.7.8", ""), 201)
	do(t, h, "GET", "/api/v1/namespaces/new", "", 404)
	do(t, h, "GET", ipAddresses+"/10.96.7.8", "", 404)

	changed := strings.Replace(claimingService("a", "10.96.7.7", ""), `"port":80`, `"port":81`, 1)
	updated := decode[corev1.Service](t, do(t, h, "PUT", financeServices+"/a"+dry, changed, 200).body)
	if updated.Spec.Ports[0].Port != 81 || updated.Generation != 2 {
		t.Errorf("update: %+v", updated)
	}
	do(t, h, "DELETE", financeServices+"/a"+dry, "", 200)
	do(t, h, "DELETE", financeServices+"/a", `{"dryRun":["All"]}`, 200)
	do(t, h, "DELETE", financeServices+dry, "", 200)
	do(t, h, "DELETE", "/api/v1/namespaces/finance"+dry, "", 200)
	do(t, h, "POST", "/api/v1/namespaces/finance/events"+dry, `{"metadata":{"name":"e"},"involvedObject":{"namespace":"finance"}}`, 201)
	if svc := decode[corev1.Service](t, do(t, h, "GET", financeServices+"/a", "", 200).body); svc.Spec.Ports[0].Port != 80 {
		t.Errorf("the update was made: %+v", svc.Spec)
	}
	if now := s.opts.Store.Snapshot().Revision(); now != before {
		t.Errorf("revision %d, want that before the dry runs, %d", now, before)
	}
	if s.opts.Writer.events.id != 0 {
		t.Error("a lease was granted for an Event")
	}
}

// TestDryRunRefuses checks that a dry run is refused for what would refuse the
// write.
func TestDryRunRefuses(t *testing.T) {
	h := newRegistryServer(t).Handler()
	const dry = "?dryRun=All"
	do(t, h, "POST", financeServices, claimingService("a", "10.96.7.7", ""), 201)
	tests := []struct {
		method, path, body string
		code               int
		message            string
	}{
		{"POST", financeServices, claimingService("a", "", ""), 409, `services "a" already exists`},
		{"POST", financeServices, claimingService("b", "10.96.7.7", ""), 422, "failed to allocate IP 10.96.7.7: provided IP is already allocated"},
		{"POST", financeServices, claimingService("b", "10.97.0.1", ""), 422, "not in the valid range"},
		{"POST", financeServices, `{"metadata":{"name":"b"},"spec":{"ports":[{"port":0}]}}`, 422, "spec.ports[0].port: Invalid value: 0"},
		{"PUT", financeServices + "/b", claimingService("b", "", ""), 404, `services "b" not found`},
		{"PUT", financeServices + "/a", claimingService("a", "10.96.7.9", ""), 422, "may not change once set"},
		{"PUT", financeServices + "/a", `{"metadata":{"name":"a","resourceVersion":"1"},"spec":{"ports":[{"port":80}]}}`, 409, "the object has been modified"},
		{"DELETE", financeServices + "/b", "", 404, `services "b" not found`},
	}
	for _, tt := range tests {
		if got := do(t, h, tt.method, tt.path+dry, tt.body, tt.code); !strings.Contains(got.status.Message, tt.message) {
			t.Errorf("%s %s: %s\nwant %s", tt.method, tt.path, got.status.Message, tt.message)
		}
	}
}

// TestGenerateName checks the names that the API makes.
func TestGenerateName(t *testing.T) {
	s := newRegistryServer(t)
	h := s.Handler()
	const manifest = `{"metadata":{"generateName":%q},"spec":{"ports":[{"port":80}]}}`
	got := decode[corev1.Service](t, do(t, h, "POST", financeServices, fmt.Sprintf(manifest, "web-"), 201).body).Name
	if suffix, ok := strings.CutPrefix(got, "web-"); !ok || len(suffix) != 5 || strings.Trim(suffix, "bcdfghjklmnpqrstvwxz2456789") != "" {
		t.Errorf("name %q", got)
	}
	long := strings.Repeat("a", 60)
	got = decode[corev1.Service](t, do(t, h, "POST", financeServices, fmt.Sprintf(manifest, long), 201).body).Name
	if len(got) != 63 || !strings.HasPrefix(got, long[:58]) {
		t.Errorf("name %q of %d letters", got, len(got))
	}
	if msg := do(t, h, "POST", financeServices, fmt.Sprintf(manifest, "A_"), 422).status.Message; !strings.Contains(msg, `metadata.generateName: Invalid value: "A_"`) {
		t.Error(msg)
	}

	// A name that is taken is tried again, but not for ever.
	names := []string{"c", "c", "d", "c", "c", "c", "c", "c", "c", "c", "c", "e"}
	s.opts.Writer.generateName = func(string) string {
		name := names[0]
		names = names[1:]
		return name
	}
	for _, want := range []string{"c", "d"} {
		if got := decode[corev1.Service](t, do(t, h, "POST", financeServices, fmt.Sprintf(manifest, "x-"), 201).body).Name; got != want {
			t.Errorf("name %q, want %q", got, want)
		}
	}
	const want = `services "c" already exists, the server was not able to generate a unique name for the object`
	if got := do(t, h, "POST", financeServices, fmt.Sprintf(manifest, "x-"), 409); got.status.Message != want || got.status.Reason != "AlreadyExists" || len(names) != 1 {
		t.Errorf("%s %q, %d names left", got.status.Reason, got.status.Message, len(names))
	}
}

// TestResourceVersionOfUpdate checks what an update says that it is based on.
func TestResourceVersionOfUpdate(t *testing.T) {
	h := newRegistryServer(t).Handler()
	svc := decode[corev1.Service](t, do(t, h, "POST", financeServices, claimingService("a", "", ""), 201).body)
	manifest := func(revision string) string {
		return fmt.Sprintf(`{"metadata":{"name":"a","resourceVersion":%q},"spec":{"ports":[{"port":80}]}}`, revision)
	}
	do(t, h, "PUT", financeServices+"/a", manifest(""), 200)
	do(t, h, "PUT", financeServices+"/a", manifest("0"), 200)
	do(t, h, "PUT", financeServices+"/a", manifest(svc.ResourceVersion), 200)
	do(t, h, "PUT", financeServices+"/a", manifest("1"), 409)
	got := do(t, h, "PUT", financeServices+"/a", manifest("abc"), 422)
	if want := `Service "a" is invalid: metadata.resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax`; got.status.Message != want {
		t.Errorf("%s\nwant %s", got.status.Message, want)
	}
}
