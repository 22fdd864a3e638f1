package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"usher/registry"
)

const (
	jsonPatchType = string(types.JSONPatchType)
	mergeType     = string(types.MergePatchType)
	strategicType = string(types.StrategicMergePatchType)
	applyType     = string(types.ApplyYAMLPatchType)
)

const patchedService = `
metadata: {name: pay, namespace: finance, labels: {app: pay, tier: back}}
spec:
  selector: {app: pay}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: admin, port: 81, targetPort: 8081}]
`

// TestPatched has what the four kinds of patch do to lists, which is where
// they differ, and their errors in the words of Kubernetes' API server.
func TestPatched(t *testing.T) {
	ports := func(svc *corev1.Service) string {
		var list []string
		for _, p := range svc.Spec.Ports {
			list = append(list, p.Name+":"+p.TargetPort.String())
		}
		return strings.Join(list, " ")
	}
	// Kubernetes says no more than this.
	const rejected = "the server rejected our request due to an error in our request"
	var doubling []string
	for i := range 18 {
		doubling = append(doubling, fmt.Sprintf(`{"op":"copy","from":"/metadata/labels","path":"/metadata/labels/%d"}`, i))
	}
	tests := []struct {
		name, typ, patch, validation string
		ports                        string // after it
		labels                       int
		warnings                     []string
		reason                       metav1.StatusReason
		message                      string
	}{
		{name: "JSON: replace", typ: jsonPatchType, patch: `[{"op":"replace","path":"/spec/ports/1/targetPort","value":9}]`, ports: "http:8080 admin:9", labels: 2},
		{name: "JSON: remove", typ: jsonPatchType, patch: `[{"op":"remove","path":"/metadata/labels/tier"}]`, ports: "http:8080 admin:8081", labels: 1},
		{name: "JSON: test fails", typ: jsonPatchType, patch: `[{"op":"test","path":"/metadata/labels/tier","value":"front"}]`,
			reason: metav1.StatusReasonInvalid, message: rejected},
		{name: "JSON: no such path", typ: jsonPatchType, patch: `[{"op":"remove","path":"/spec/nope"}]`,
			reason: metav1.StatusReasonInvalid, message: rejected},
		{name: "JSON: no patch", typ: jsonPatchType, patch: `{}`, reason: metav1.StatusReasonBadRequest, message: "cannot unmarshal object"},
		{name: "JSON: too many", typ: jsonPatchType, patch: "[" + strings.Repeat(`{"op":"test","path":"/a"},`, maxOperations) + `{"op":"test","path":"/a"}]`,
			reason: metav1.StatusReasonRequestEntityTooLarge, message: "The allowed maximum operations in a JSON patch is 10000, got 10001"},
		{name: "JSON: copies that double", typ: jsonPatchType, patch: "[" + strings.Join(doubling, ",") + "]",
			reason: metav1.StatusReasonInvalid, message: rejected},
		{name: "merge: a list is replaced", typ: mergeType, patch: `{"spec":{"ports":[{"name":"admin","port":81,"targetPort":9}]}}`, ports: "admin:9", labels: 2},
		{name: "merge: null removes", typ: mergeType, patch: `{"metadata":{"labels":{"tier":null}}}`, ports: "http:8080 admin:8081", labels: 1},
		{name: "merge: not JSON", typ: mergeType, patch: `{`, reason: metav1.StatusReasonBadRequest, message: "Invalid JSON Patch"},
		{name: "strategic: an element is merged", typ: strategicType, patch: `{"spec":{"ports":[{"port":81,"targetPort":9}]}}`, ports: "http:8080 admin:9", labels: 2},
		{name: "strategic: an element is deleted", typ: strategicType, patch: `{"spec":{"ports":[{"port":81,"$patch":"delete"}]}}`, ports: "http:8080", labels: 2},
		{name: "strategic: a list is replaced", typ: strategicType, patch: `{"spec":{"ports":[{"$patch":"replace"},{"name":"x","port":1,"targetPort":2}]}}`, ports: "x:2", labels: 2},
		{name: "strategic: no key", typ: strategicType, patch: `{"spec":{"ports":[{"targetPort":9}]}}`,
			reason: metav1.StatusReasonInvalid, message: rejected},
		{name: "strategic: not JSON", typ: strategicType, patch: `[]`, reason: metav1.StatusReasonBadRequest, message: "cannot unmarshal array"},
		{name: "unknown field, strict", typ: mergeType, patch: `{"spec":{"portz":1}}`, validation: "Strict",
			reason: metav1.StatusReasonInvalid, message: `strict decoding error: unknown field "spec.portz"`},
		{name: "unknown field", typ: mergeType, patch: `{"spec":{"portz":1}}`, ports: "http:8080 admin:8081", labels: 2, warnings: []string{`unknown field "spec.portz"`}},
		{name: "unknown field, ignored", typ: strategicType, patch: `{"spec":{"portz":1}}`, validation: "Ignore", ports: "http:8080 admin:8081", labels: 2},
		{name: "wrong type", typ: mergeType, patch: `{"spec":{"ports":"80"}}`, reason: metav1.StatusReasonInvalid, message: "patch: Invalid value"},
		{name: "other kind", typ: mergeType, patch: `{"kind":"Pod"}`, reason: metav1.StatusReasonBadRequest, message: `Pod in version "v1" cannot be handled as a Service`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			old, err := registry.DecodeStrict(registry.Services, []byte(patchedService))
			if err != nil {
				t.Fatal(err)
			}
			before := old.DeepCopyObject()
			validation := newFieldValidation(tt.validation)
			obj, err := patched(old, types.PatchType(tt.typ), []byte(tt.patch), validation)
			if err != nil || tt.reason != "" {
				if apierrors.ReasonForError(err) != tt.reason || !strings.Contains(err.Error(), tt.message) {
					t.Fatalf("%s: %v, want %s: %s", apierrors.ReasonForError(err), err, tt.reason, tt.message)
				}
				return
			}
			svc := obj.(*corev1.Service)
			if got := ports(svc); got != tt.ports || len(svc.Labels) != tt.labels || !slices.Equal(validation.warnings, tt.warnings) {
				t.Errorf("ports %q, %d labels, warnings %q", got, len(svc.Labels), validation.warnings)
			}
			if changed(old, before.(registry.Object)) {
				t.Error("the old object was changed")
			}
		})
	}
}

// TestPatch has what a patch does beyond the object itself.
func TestPatch(t *testing.T) {
	h := newRegistryServer(t).Handler()
	const services = "/api/v1/namespaces/finance/services"
	ask(t, h, "POST", services, patchedService, "Content-Type", mediaYAML)
	patch := func(path, typ, body string) reply {
		return ask(t, h, "PATCH", services+path, body, "Content-Type", typ)
	}
	got := patch("/pay", strategicType, `{"spec":{"ports":[{"port":81,"targetPort":9}]}}`)
	svc := decode[corev1.Service](t, got.body)
	if got.code != 200 || len(svc.Spec.Ports) != 2 || svc.Generation != 2 || svc.Spec.ClusterIP == "" {
		t.Fatalf("%d %s", got.code, got.body)
	}
	if again := patch("/pay", mergeType, `{"spec":{"selector":{"app":"pay"}}}`); again.code != 200 ||
		decode[corev1.Service](t, again.body).ResourceVersion != svc.ResourceVersion {
		t.Errorf("a patch that changes nothing was written: %s", again.body)
	}
	dry := patch("/pay?dryRun=All", mergeType, `{"metadata":{"labels":{"a":"b"}}}`)
	if now := ask(t, h, "GET", services+"/pay", ""); dry.code != 200 || !strings.Contains(dry.body, `"a":"b"`) || strings.Contains(now.body, `"a":"b"`) {
		t.Errorf("dry run: %d %s", dry.code, dry.body)
	}
	status := patch("/pay/status", mergeType, `{"metadata":{"labels":{"a":"b"}},"spec":{"type":"NodePort"},`+
		`"status":{"conditions":[{"type":"X","status":"True","reason":"Test","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`)
	if svc := decode[corev1.Service](t, status.body); status.code != 200 || len(svc.Status.Conditions) != 1 || svc.Labels["a"] != "b" || svc.Spec.Type != "ClusterIP" {
		t.Errorf("status: %d %s", status.code, status.body)
	}
	tests := []struct {
		path, typ, body string
		code            int
		message         string
	}{
		{"/nobody", mergeType, "{}", 404, `services "nobody" not found`},
		{"/pay", mediaJSON, "{}", 415, "the body of the request was in an unknown format - accepted media types include: " +
			"application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml"},
		{"/pay", mergeType, `{"metadata":{"name":"other"}}`, 400, "the name of the object (other) does not match the name on the URL (pay)"},
		{"/pay", mergeType, `{"metadata":{"namespace":"other"}}`, 400, "the namespace of the object (other) does not match the namespace on the request (finance)"},
		{"/pay", mergeType, `{"metadata":{"resourceVersion":"1"}}`, 409, "the object has been modified"},
		{"/pay", mergeType, `{"metadata":{"resourceVersion":"x"}}`, 422, "metadata.resourceVersion: Invalid value"},
		{"/pay", mergeType, `{"metadata":{"uid":"x"}}`, 409, "Precondition failed: UID in precondition: x"},
		{"/pay", mergeType, `{"spec":{"clusterIP":"10.96.9.9"}}`, 422, "spec.clusterIPs[0]: Invalid value: [\"10.96.9.9\"]: may not change once set"},
		{"/pay", mergeType, `{"spec":{"ports":[{"port":0}]}}`, 422, "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"},
		{"/pay?force=true", mergeType, "{}", 422, "force: Forbidden: may not be specified for non-apply patch"},
		{"/pay?dryRun=x", mergeType, "{}", 422, "Unsupported value"},
		{"/pay", mergeType, strings.Repeat(" ", bodyLimit+1), 413, "limit is"},
		{"/pay/log", mergeType, "{}", 404, "could not find the requested resource"},
		{"", mergeType, "{}", 405, "does not allow this method"},
	}
	for _, tt := range tests {
		if got := patch(tt.path, tt.typ, tt.body); got.code != tt.code || !strings.Contains(got.status.Message, tt.message) {
			t.Errorf("%s %s: %d %q, want %d %q", tt.path, tt.body[:min(len(tt.body), 80)], got.code, got.status.Message, tt.code, tt.message)
		}
	}
}

// TestApply follows one Service through server-side apply (KEP-555).
func TestApply(t *testing.T) {
	h := newRegistryServer(t).Handler()
	const one = "/api/v1/namespaces/finance/services/pay"
	apply := func(query, body string) (reply, corev1.Service) {
		t.Helper()
		got := ask(t, h, "PATCH", one+query, body, "Content-Type", applyType)
		if got.code >= 400 {
			return got, corev1.Service{}
		}
		return got, decode[corev1.Service](t, got.body)
	}
	const manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: pay, labels: {app: pay}}\n" +
		"spec: {selector: {app: pay}, ports: [{name: http, port: 80, targetPort: 8080}]}\n"

	got, svc := apply("?fieldManager=me", manifest)
	if got.code != http.StatusCreated || svc.Spec.ClusterIP == "" || owners(svc) != "me:Apply" {
		t.Fatalf("create: %d %s", got.code, got.body)
	}
	got, again := apply("?fieldManager=me", manifest)
	if got.code != http.StatusOK || again.ResourceVersion != svc.ResourceVersion {
		t.Errorf("the same again was written: %d %s", got.code, got.body)
	}

	// Somebody else adds a port of their own, and nobody loses anything.
	got, svc = apply("?fieldManager=other", "apiVersion: v1\nkind: Service\nspec: {ports: [{name: admin, port: 81}]}\n")
	if got.code != 200 || len(svc.Spec.Ports) != 2 || owners(svc) != "me:Apply other:Apply" {
		t.Errorf("%d %s", got.code, got.body)
	}
	// What two want differently is a conflict, unless it is forced.
	const taken = "apiVersion: v1\nkind: Service\nspec: {ports: [{name: http, port: 80, targetPort: 9}]}\n"
	got, _ = apply("?fieldManager=other", taken)
	if want := `Apply failed with 1 conflict: conflict with "me": .spec.ports[k:{"port":80,"protocol":"TCP"}].targetPort`; got.code != http.StatusConflict ||
		!strings.Contains(got.status.Message, `conflict with "me"`) || !strings.Contains(got.status.Message, "targetPort") || len(got.status.Details.Causes) != 1 {
		t.Errorf("%d %s\nwant %s", got.code, got.body, want)
	}
	if got, svc = apply("?fieldManager=other&force=true", taken); got.code != 200 || svc.Spec.Ports[0].TargetPort.IntValue() != 9 {
		t.Errorf("forced: %d %s", got.code, got.body)
	}
	// What a manifest no longer says, its owner no longer wants.
	if got, svc = apply("?fieldManager=other&force=true", "apiVersion: v1\nkind: Service\nmetadata: {name: pay}\n"); got.code != 200 ||
		len(svc.Spec.Ports) != 1 || svc.Spec.Ports[0].Name != "http" {
		t.Errorf("left out: %d %s", got.code, got.body)
	}
	// A PUT makes its client the owner of what it changed.
	svc.Spec.Ports[0].TargetPort.IntVal = 7
	put := ask(t, h, "PUT", one, encode(t, &svc), "Content-Type", mediaJSON, "User-Agent", "curl/8")
	if got := owners(decode[corev1.Service](t, put.body)); put.code != 200 || !strings.Contains(got, "curl:Update") {
		t.Errorf("PUT: %d, owners %s", put.code, got)
	}

	tests := []struct {
		query, body string
		code        int
		message     string
	}{
		{"", manifest, 422, "fieldManager: Required value: is required for apply patch"},
		{"?fieldManager=me", "{", 400, "error decoding YAML"},
		{"?fieldManager=me", "apiVersion: v1\nkind: Pod\n", 400, `the kind of the applied configuration is "Pod"`},
		{"?fieldManager=me", "apiVersion: v2\nkind: Service\n", 400, "invalid object type: /v2, Kind=Service"},
		{"?fieldManager=me", "apiVersion: v1\nkind: Service\nmetadata: {name: other}\n", 400, "does not match the name on the URL (pay)"},
		{"?fieldManager=me", "apiVersion: v1\nkind: Service\nmetadata: {managedFields: [{}]}\n", 400, "metadata.managedFields must be nil"},
		{"?fieldManager=me&force=true", "apiVersion: v1\nkind: Service\nspec: {portz: 1}\n", 400, ".spec.portz: field not declared in schema"},
		{"?fieldManager=me&force=true", "apiVersion: v1\nkind: Service\nspec: {ports: [{port: 70000}]}\n", 422, "must be between 1 and 65535"},
		{"?fieldManager=me&fieldValidation=Strict", "apiVersion: v1\nkind: Service\nkind: Service\n", 400, "already set in map"},
	}
	for _, tt := range tests {
		if got, _ := apply(tt.query, tt.body); got.code != tt.code || !strings.Contains(got.status.Message, tt.message) {
			t.Errorf("%s %q: %d %q, want %d %q", tt.query, tt.body, got.code, got.status.Message, tt.code, tt.message)
		}
	}
}

// What usher's own commands made, usher apply may take away; what others made,
// such as usher run, stays.
func TestApplyOwn(t *testing.T) {
	const manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: pay}\nspec: {ports: [{name: admin, port: 81}]}\n"
	for agent, ports := range map[string]int{CommandLine: 1, "usher-run": 3} {
		h := newRegistryServer(t).Handler()
		ask(t, h, "POST", "/api/v1/namespaces/finance/services", `{"metadata":{"name":"pay"},"spec":{"ports":[{"name":"a","port":1},{"name":"b","port":2}]}}`, "User-Agent", agent)
		got := ask(t, h, "PATCH", "/api/v1/namespaces/finance/services/pay?force=true&fieldManager="+CommandLine, manifest, "Content-Type", applyType)
		if svc := decode[corev1.Service](t, got.body); got.code != 200 || len(svc.Spec.Ports) != ports {
			t.Errorf("made by %s: %d %s", agent, got.code, got.body)
		}
	}
}

// TestChanged checks that it is no change when an owner says the same later.
func TestChanged(t *testing.T) {
	owned := func(manager string, at int64, fields string) *corev1.Service {
		svc := service("finance", "pay", "10.96.0.5")
		svc.ManagedFields = []metav1.ManagedFieldsEntry{{
			Manager: manager, Operation: metav1.ManagedFieldsOperationApply, Time: &metav1.Time{Time: time.Unix(at, 0)},
			FieldsV1: metav1.NewFieldsV1(fields),
		}}
		return svc
	}
	old := owned("me", 1, `{"f:spec":{}}`)
	tests := []struct {
		name string
		obj  *corev1.Service
		want bool
	}{
		{"the same", owned("me", 1, `{"f:spec":{}}`), false},
		{"later", owned("me", 2, `{"f:spec":{}}`), false},
		{"another owner", owned("other", 1, `{"f:spec":{}}`), true},
		{"other fields", owned("me", 1, `{"f:metadata":{}}`), true},
		{"no owner", service("finance", "pay", "10.96.0.5"), true},
		{"another address", owned("me", 1, `{"f:spec":{}}`), true},
	}
	tests[len(tests)-1].obj.Spec.ClusterIP = "10.96.0.6"
	for _, tt := range tests {
		if got := changed(tt.obj, old); got != tt.want {
			t.Errorf("%s: changed %t", tt.name, got)
		}
	}
	if at := old.ManagedFields[0].Time.Unix(); at != 1 {
		t.Errorf("the old object has the time %d", at)
	}
}

// owners lists who has set something of an object, and how.
func owners(svc corev1.Service) string {
	var list []string
	for _, m := range svc.ManagedFields {
		list = append(list, m.Manager+":"+string(m.Operation))
	}
	return strings.Join(list, " ")
}

// TestApplyEachKind checks that the schema of each Kind fits its objects.
func TestApplyEachKind(t *testing.T) {
	managers, err := fieldManagers()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range registry.Kinds {
		w := new(Writer).As("me")
		obj := k.New()
		obj.SetName("x")
		if err := w.own(k.New(), obj, ""); err != nil || managers[managedPart{k, ""}] == nil {
			t.Errorf("%s: %v", k.Kind, err)
		}
	}
}

func FuzzPatch(f *testing.F) {
	old, err := registry.DecodeStrict(registry.Services, []byte(patchedService))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []struct{ typ, patch string }{
		{jsonPatchType, `[{"op":"copy","from":"/spec","path":"/metadata/labels/a"}]`},
		{mergeType, `{"spec":{"ports":null}}`},
		{strategicType, `{"spec":{"ports":[{"port":81,"$patch":"delete"}],"$setElementOrder/ports":[{"port":80}]}}`},
		{strategicType, `{"metadata":{"$retainKeys":["name"],"name":"x"},"$patch":"replace"}`},
	} {
		f.Add(seed.typ, []byte(seed.patch))
	}
	f.Fuzz(func(t *testing.T, typ string, patch []byte) {
		if typ != jsonPatchType && typ != mergeType {
			typ = strategicType
		}
		obj, err := patched(old, types.PatchType(typ), patch, newFieldValidation(""))
		if err == nil && obj == nil {
			t.Error("no object, and no error")
		}
		if err != nil && statusOf(err).Code == http.StatusInternalServerError {
			t.Errorf("a patch is the server's fault: %v", err)
		}
	})
}

// TestFieldValidation has what is done about an unknown field (KEP-2885).
func TestFieldValidation(t *testing.T) {
	h := newRegistryServer(t).Handler()
	const services = "/api/v1/namespaces/finance/services"
	const manifest = `{"metadata":{"name":"pay"},"spec":{"portz":1,"ports":[{"port":80}]}}`
	tests := []struct {
		query   string
		code    int
		warning string
	}{
		{"?fieldValidation=Strict", 400, ""},
		{"?fieldValidation=Some", 422, ""},
		{"?fieldValidation=Ignore", 201, ""},
		{"?dryRun=All&fieldValidation=Warn", 409, ""},
		{"", 409, ""},
	}
	for _, tt := range tests {
		if got := ask(t, h, "POST", services+tt.query, manifest); got.code != tt.code {
			t.Errorf("%s: %d %s", tt.query, got.code, got.body)
		}
	}
	put := ask(t, h, "PUT", services+"/pay", manifest)
	if want := `299 - "unknown field \"spec.portz\""`; put.code != 200 || !slices.Contains(put.header.Values("Warning"), want) {
		t.Errorf("PUT: %d %q, want %s", put.code, put.header.Values("Warning"), want)
	}
}

func TestOpenAPI(t *testing.T) {
	s, _ := newTestServer(t, 9)
	h := s.Handler()
	index := decode[struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}](t, ask(t, h, "GET", "/openapi/v3", "").body)
	for _, root := range []string{"api/v1", "apis/discovery.k8s.io/v1", "apis/networking.k8s.io/v1", "apis/usher.internal/v1"} {
		url := index.Paths[root].ServerRelativeURL
		got := ask(t, h, "GET", url, "")
		if got.code != 200 || got.header.Get("Content-Type") != mediaJSON || !strings.Contains(got.body, `"openapi":"3.0.0"`) {
			t.Errorf("%s: %q: %d", root, url, got.code)
		}
		if again := ask(t, h, "GET", url, "", "If-None-Match", got.header.Get("ETag")); again.code != http.StatusNotModified || again.body != "" {
			t.Errorf("%s again: %d %s", url, again.code, again.body)
		}
	}
	if got := ask(t, h, "GET", "/openapi/v2", ""); got.code != 200 || !strings.Contains(got.body, `"swagger":"2.0"`) {
		t.Errorf("v2: %d", got.code)
	}
	for _, accept := range []string{acceptOpenAPI, mediaOpenAPI} {
		if got := ask(t, h, "GET", "/openapi/v2", "", "Accept", accept); got.code != 200 || got.header.Get("Content-Type") != mediaOpenAPI {
			t.Errorf("v2 as %s: %d %q", accept, got.code, got.header.Get("Content-Type"))
		}
	}
	for _, url := range []string{"/openapi", "/openapi/v4", "/openapi/v3/apis/apps/v1", "/openapi/v2/x"} {
		if got := ask(t, h, "GET", url, ""); got.code != 404 {
			t.Errorf("%s: %d", url, got.code)
		}
	}
	if got := ask(t, h, "POST", "/openapi/v2", ""); got.code != 405 {
		t.Errorf("POST: %d", got.code)
	}
}
