package api

import (
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"

	"usher/registry"
)

func TestErrors(t *testing.T) {
	s, _ := newTestServer(t, 9, at(5, service("finance", "pay", "10.96.1.1")))
	const one = "/api/v1/namespaces/finance/services/pay"
	tests := []struct {
		method, url, body string
		headers           []string
		code              int
		reason            metav1.StatusReason
		message           string
	}{
		{"GET", "/api/v1/namespaces/finance/services/nope", "", nil, 404, "NotFound", `services "nope" not found`},
		{"GET", "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices/b", "", nil, 404, "NotFound", `endpointslices.discovery.k8s.io "b" not found`},
		{"GET", "/nope", "", nil, 404, "NotFound", "the server could not find the requested resource"},
		{"GET", "/", "", nil, 404, "NotFound", "the server could not find the requested resource"},
		{"GET", "/api/v1/secrets", "", nil, 404, "NotFound", "the server could not find the requested resource"},
		{"GET", "/apis/nope.io", "", nil, 404, "NotFound", "the server could not find the requested resource"},
		{"GET", "/apis/usher.internal/v1/nope", "", nil, 404, "NotFound", "the server could not find the requested resource"},
		{"GET", "/metrics", "", nil, 404, "NotFound", "the server could not find the requested resource"}, // none given
		{"POST", "/version", "", nil, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource"},
		{"POST", one, "", nil, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource"},
		{"POST", "/api/v1/services", "", nil, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource"},
		{"DELETE", "/api/v1/services", "", nil, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource"},
		{"PUT", "/apis/usher.internal/v1/status", "", nil, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource"},
		{"GET", "/apis/usher.internal/v1/leases", "", nil, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource"},
		{"POST", "/api/v1/namespaces/finance/pods/pay-1/exec?command=sh", "", nil, 501, "NotImplemented",
			"pods/exec is not implemented by usher: its processes are this machine's: start another one beside them with `usher exec`"},
		{"GET", "/api/v1/namespaces/finance/services/pay/scale", "", nil, 404, "NotFound", "the server could not find the requested resource"},
		{"PATCH", "/apis/usher.internal/v1/status", "{}", nil, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource"},
		{"GET", one, "", []string{"Accept", "text/html"}, 406, "NotAcceptable", "only the following media types are accepted: application/json, application/yaml"},
		{"GET", "/api/v1/services?watch=1", "", []string{"Accept", "application/yaml"}, 406, "NotAcceptable", "only the following media types are accepted: application/json"},
		{"GET", "/api/v1/services?labelSelector=a+in", "", nil, 400, "BadRequest", "unable to parse requirement: found '' expected: '('"},
		{"GET", "/api/v1/services?fieldSelector=spec.x%3D1", "", nil, 400, "BadRequest", "field label not supported: spec.x"},
		{"GET", "/api/v1/endpoints?fieldSelector=spec.x%3D1", "", nil, 400, "BadRequest", `"spec.x" is not a known field selector: only "metadata.name", "metadata.namespace"`},
		{"GET", "/api/v1/services?fieldSelector=nope", "", nil, 400, "BadRequest", "invalid selector: 'nope'; can't understand 'nope'"},
		{"GET", "/api/v1/services?resourceVersion=x", "", nil, 400, "BadRequest", `invalid resource version "x": strconv.ParseInt: parsing "x": invalid syntax`},
		{"GET", "/api/v1/services?resourceVersion=-1", "", nil, 400, "BadRequest", `invalid resource version "-1": must not be negative`},
		{"GET", "/api/v1/services?watch=1&resourceVersion=x", "", nil, 400, "BadRequest", `invalid resource version "x": strconv.ParseInt: parsing "x": invalid syntax`},
		{"GET", "/api/v1/services?watch=1&timeoutSeconds=x", "", nil, 400, "BadRequest", `strconv.ParseInt: parsing "x": invalid syntax`},
		{"GET", "/api/v1/services?watch=1&resourceVersion=8", "", nil, 410, "Expired", "too old resource version: 8 (9)"},
		{"GET", "/api/v1/services?resourceVersion=8&resourceVersionMatch=Exact", "", nil, 410, "Expired", "too old resource version: 8 (9)"},
		{"GET", "/api/v1/services?watch=1&sendInitialEvents=true", "", nil, 422, "Invalid",
			`ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan`},
		{"GET", "/api/v1/services?includeObject=All", "", []string{"Accept", "application/json;as=Table;v=v1;g=meta.k8s.io"},
			400, "BadRequest", "includeObject must be 'None', 'Metadata' or 'Object', not \"All\""},
	}
	for _, tt := range tests {
		got := ask(t, s.Handler(), tt.method, tt.url, tt.body, tt.headers...)
		if got.code != tt.code || got.status.Reason != tt.reason || got.status.Message != tt.message {
			t.Errorf("%s %s = %d %s %q,\nwant %d %s %q", tt.method, tt.url,
				got.code, got.status.Reason, got.status.Message, tt.code, tt.reason, tt.message)
		}
		if got := got.header.Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("%s %s: X-Content-Type-Options: %q", tt.method, tt.url, got)
		}
	}
}

func TestGet(t *testing.T) {
	want := at(5, service("finance", "pay", "10.96.1.1"))
	s, _ := newTestServer(t, 9, want)
	const url = "/api/v1/namespaces/finance/services/pay"

	got := ask(t, s.Handler(), "GET", url, "")
	if diff := cmp.Diff(want, decode[*corev1.Service](t, got.body)); diff != "" || got.code != http.StatusOK {
		t.Errorf("%d (-want +got):\n%s", got.code, diff)
	}
	if got := got.header.Get("Content-Type"); got != mediaJSON {
		t.Errorf("Content-Type: %s", got)
	}
	if got := ask(t, s.Handler(), "GET", url+"/status", ""); got.code != http.StatusOK {
		t.Errorf("status: %d %s", got.code, got.body)
	}
	yaml := ask(t, s.Handler(), "GET", url, "", "Accept", mediaYAML)
	if !strings.Contains(yaml.body, "\n  clusterIP: 10.96.1.1\n") || yaml.header.Get("Content-Type") != mediaYAML {
		t.Errorf("%s:\n%s", yaml.header.Get("Content-Type"), yaml.body)
	}
	if head := ask(t, s.Handler(), "HEAD", url, ""); head.code != http.StatusOK {
		t.Errorf("HEAD: %d", head.code)
	}
}

func TestList(t *testing.T) {
	tests := []struct {
		url  string
		want []string // names
	}{
		{"/api/v1/services", []string{"pay", "shop", "pay"}},
		{"/api/v1/services?limit=1", []string{"pay"}},
		{"/api/v1/services?resourceVersion=0", []string{"pay", "shop", "pay"}},
		{"/api/v1/services?resourceVersion=9&resourceVersionMatch=Exact", []string{"pay", "shop", "pay"}},
		{"/api/v1/namespaces/finance/services", []string{"pay", "shop"}},
		{"/api/v1/namespaces/fin/services", []string{}},
		{"/api/v1/services?labelSelector=app%3Dpay", []string{"pay", "pay"}},
		{"/api/v1/services?labelSelector=app+notin+(pay)", []string{"shop"}},
		{"/api/v1/services?labelSelector=!app", []string{}},
		{"/api/v1/services?fieldSelector=metadata.name%3Dshop", []string{"shop"}},
		{"/api/v1/services?fieldSelector=metadata.namespace!%3Dfinance", []string{"pay"}},
		{"/api/v1/services?fieldSelector=spec.clusterIP%3D10.96.1.2", []string{"shop"}},
		{"/api/v1/services?fieldSelector=spec.type%3DExternalName", []string{}},
		{"/api/v1/services?labelSelector=app%3Dpay&fieldSelector=metadata.namespace%3Dfinance", []string{"pay"}},
		{"/api/v1/pods?fieldSelector=status.phase%3DRunning,status.podIP%3D127.0.0.2", []string{"pay-2"}},
		{"/api/v1/pods?fieldSelector=spec.nodeName%3D", []string{"pay-1", "pay-2"}},
		{"/api/v1/events?fieldSelector=involvedObject.kind%3DService,involvedObject.name%3Dpay,type%3DWarning", []string{"pay.1"}},
		{"/api/v1/events?fieldSelector=reason%3DNope", []string{}},
		{"/api/v1/namespaces?fieldSelector=status.phase%3DActive", []string{"finance"}},
	}
	event := registry.Events.New().(*corev1.Event)
	event.Namespace, event.Name, event.Type = "finance", "pay.1", "Warning"
	event.InvolvedObject = corev1.ObjectReference{Kind: "Service", Name: "pay"}
	s, _ := newTestServer(t, 9,
		at(1, service("finance", "pay", "10.96.1.1")), at(2, service("finance", "shop", "10.96.1.2")), at(3, service("other", "pay", "10.96.1.3")),
		at(4, pod("finance", "pay-1", "pay", "127.0.0.1", true)), at(5, pod("finance", "pay-2", "pay", "127.0.0.2", true)),
		at(6, event), at(7, namespace("finance")))
	type answer struct {
		metav1.TypeMeta
		metav1.ListMeta `json:"metadata"`
		Items           []metav1.PartialObjectMetadata
	}
	for _, tt := range tests {
		reply := ask(t, s.Handler(), "GET", tt.url, "")
		got := decode[answer](t, reply.body)
		names := []string{}
		for _, item := range got.Items {
			names = append(names, item.Name)
		}
		if diff := cmp.Diff(tt.want, names); diff != "" {
			t.Errorf("%s = %d (-want +got):\n%s", tt.url, reply.code, diff)
		}
		if got.ResourceVersion != "9" || !strings.HasSuffix(got.Kind, "List") || got.Items == nil {
			t.Errorf("%s: %s", tt.url, reply.body)
		}
	}
}

// A client that has seen a later revision elsewhere waits for it.
func TestWaitForRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, store := newTestServer(t, 3)
		answered := make(chan reply, 1)
		go func() { answered <- ask(t, s.Handler(), "GET", "/api/v1/services?resourceVersion=7", "") }()
		synctest.Wait()
		select {
		case got := <-answered:
			t.Errorf("answered at once: %s", got.body)
		default:
		}
		put(store, 7, service("finance", "pay", "10.96.1.1"))
		if got := <-answered; got.code != http.StatusOK || !strings.Contains(got.body, "10.96.1.1") {
			t.Errorf("%d %s", got.code, got.body)
		}
		late := ask(t, s.Handler(), "GET", "/api/v1/services?resourceVersion=8", "")
		if late.code != http.StatusGatewayTimeout || late.status.Message != "Timeout: Too large resource version: 8, current: 7" ||
			late.header.Get("Retry-After") != "1" {
			t.Errorf("%d %s", late.code, late.body)
		}
	})
}

// An empty Store is not an empty registry.
func TestBeforeSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := registry.NewStore()
		s := New(Options{Store: store, Explain: func(Question) (Explanation, error) { return Explanation{}, nil }})
		defer s.Close()
		for _, url := range []string{
			"/api/v1/services", "/api/v1/services?watch=1", "/api/v1/services?watch=1&resourceVersion=5", "/api/v1/namespaces/a/services/b",
			"/apis/usher.internal/v1/explain", "/apis/usher.internal/v1/explain/a/b",
		} {
			got := ask(t, s.Handler(), "GET", url, "")
			if got.code != http.StatusServiceUnavailable || got.status.Message != "the registry has not been read yet" ||
				got.header.Get("Retry-After") != "1" {
				t.Errorf("%s: %d %s", url, got.code, got.body)
			}
		}
		if got := ask(t, s.Handler(), "GET", "/readyz", ""); got.code != http.StatusInternalServerError ||
			got.body != "[+]ping ok\n[-]informer-sync failed: the registry has not been read yet\nreadyz check failed\n" {
			t.Errorf("readyz: %d %s", got.code, got.body)
		}
		if got := ask(t, s.Handler(), "GET", "/livez", ""); got.code != http.StatusOK {
			t.Errorf("livez: %d %s", got.code, got.body)
		}
		answered := make(chan reply, 1)
		go func() { answered <- ask(t, s.Handler(), "GET", "/api/v1/services", "") }()
		synctest.Wait()
		store.Replace(3, nil)
		if got := <-answered; got.code != http.StatusOK {
			t.Errorf("%d %s", got.code, got.body)
		}
	})
}

func TestFixedPaths(t *testing.T) {
	s, _ := newTestServer(t, 9)
	if got := ask(t, s.Handler(), "GET", "/proxyMode", ""); got.code != 200 || got.body != "userspace" {
		t.Errorf("proxyMode: %d %q", got.code, got.body)
	}
	if got := decode[version.Info](t, ask(t, s.Handler(), "GET", "/version", "").body); got.GitVersion != "v1.37.0+usher" {
		t.Errorf("version: %+v", got)
	}
	got := decode[Status](t, ask(t, s.Handler(), "GET", "/apis/usher.internal/v1/status", "").body)
	if got.NodeName != "laptop" || got.Revision != 9 || got.Kind != "Status" || got.APIVersion != "usher.internal/v1" {
		t.Errorf("status: %+v", got)
	}
	s.opts.Metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("usher_x 1\n")) })
	if got := ask(t, s.Handler(), "GET", "/metrics", ""); got.body != "usher_x 1\n" {
		t.Errorf("metrics: %d %q", got.code, got.body)
	}
}

func TestDiscovery(t *testing.T) {
	s, _ := newTestServer(t, 9)
	groups := decode[metav1.APIGroupList](t, ask(t, s.Handler(), "GET", "/apis", "").body)
	var names []string
	for _, g := range groups.Groups {
		names = append(names, g.PreferredVersion.GroupVersion)
	}
	if diff := cmp.Diff([]string{"discovery.k8s.io/v1", "networking.k8s.io/v1", "usher.internal/v1", "authentication.k8s.io/v1", "authorization.k8s.io/v1"}, names); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	if got := decode[metav1.APIVersions](t, ask(t, s.Handler(), "GET", "/api", "").body); !slices.Equal(got.Versions, []string{"v1"}) {
		t.Errorf("/api: %+v", got)
	}
	if got := decode[metav1.APIGroup](t, ask(t, s.Handler(), "GET", "/apis/discovery.k8s.io", "").body); got.Name != "discovery.k8s.io" || got.Kind != "APIGroup" {
		t.Errorf("group: %+v", got)
	}
	// The aggregated document says the same.
	for _, version := range []string{"v2", "v2beta1"} {
		media := "application/json;g=apidiscovery.k8s.io;v=" + version + ";as=APIGroupDiscoveryList"
		got := ask(t, s.Handler(), "GET", "/api", "", "Accept", media+",application/json")
		list := decode[apidiscoveryv2.APIGroupDiscoveryList](t, got.body)
		if got.header.Get("Content-Type") != media || list.APIVersion != "apidiscovery.k8s.io/"+version || len(list.Items) != 1 {
			t.Fatalf("%s: %s: %s", version, got.header.Get("Content-Type"), got.body)
		}
		core := list.Items[0].Versions[0]
		at := slices.IndexFunc(core.Resources, func(r apidiscoveryv2.APIResourceDiscovery) bool { return r.Resource == "services" })
		if svc := core.Resources[at]; svc.Scope != "Namespaced" || svc.ResponseKind.Kind != "Service" || svc.SingularResource != "service" ||
			!slices.Equal(svc.ShortNames, []string{"svc"}) || !slices.Equal(svc.Categories, []string{"all"}) || svc.Subresources[0].Subresource != "status" {
			t.Errorf("%s: %+v", version, svc)
		}
		if again := ask(t, s.Handler(), "GET", "/api", "", "Accept", media, "If-None-Match", got.header.Get("ETag")); again.code != 304 {
			t.Errorf("%s again: %d", version, again.code)
		}
		got = ask(t, s.Handler(), "GET", "/apis", "", "Accept", media)
		if list := decode[apidiscoveryv2.APIGroupDiscoveryList](t, got.body); len(list.Items) != 5 || list.Items[0].Name != "discovery.k8s.io" {
			t.Errorf("%s: %s", version, got.body)
		}
	}
	if got := ask(t, s.Handler(), "GET", "/api", "", "Accept", "application/json"); !strings.Contains(got.body, "APIVersions") {
		t.Errorf("old form: %s", got.body)
	}
	if got := decode[metav1.APIResourceList](t, ask(t, s.Handler(), "GET", "/apis/authorization.k8s.io/v1", "").body); len(got.APIResources) != 2 ||
		got.APIResources[0].Kind != "SelfSubjectAccessReview" || !slices.Equal(got.APIResources[0].Verbs, []string{"create"}) {
		t.Errorf("reviews: %+v", got)
	}
	// Every resource of the registry that is announced has a collection that can be listed.
	for _, path := range []string{"/api/v1", "/apis/discovery.k8s.io/v1", "/apis/networking.k8s.io/v1", "/apis/usher.internal/v1"} {
		list := decode[metav1.APIResourceList](t, ask(t, s.Handler(), "GET", path, "").body)
		if len(list.APIResources) == 0 {
			t.Errorf("%s: no resources", path)
		}
		for _, r := range list.APIResources {
			if strings.Contains(r.Name, "/") {
				continue
			}
			if inAll := slices.Contains(r.Categories, "all"); inAll != (r.Name == "services" || r.Name == "pods") {
				t.Errorf("%s is in the category all: %t", r.Name, inAll)
			}
			if got := ask(t, s.Handler(), "GET", path+"/"+r.Name, ""); got.code != 200 || !strings.Contains(got.body, `"kind":"`+r.Kind+`List"`) {
				t.Errorf("%s/%s: %d %s", path, r.Name, got.code, got.body)
			}
		}
	}
}
