package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"usher/registry"
)

func TestNewRefuses(t *testing.T) {
	for _, server := range []string{"", "unix:", "localhost:7080", "ftp://a", "http://", "http://[::1", "/run/usher.sock"} {
		if _, err := New(server, ""); err == nil {
			t.Errorf("New(%q) gave no error", server)
		}
	}
}

func TestPath(t *testing.T) {
	tests := []struct {
		key  registry.Key
		want string
	}{
		{registry.Key{Kind: registry.Services, Namespace: "a", Name: "b"}, "/api/v1/namespaces/a/services/b"},
		{registry.Key{Kind: registry.Services, Namespace: "a"}, "/api/v1/namespaces/a/services"},
		{registry.Key{Kind: registry.Services}, "/api/v1/services"},
		{registry.Key{Kind: registry.EndpointSlices, Namespace: "a", Name: "b"}, "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices/b"},
		{registry.Key{Kind: registry.Namespaces, Name: "a"}, "/api/v1/namespaces/a"},
		{registry.Key{Kind: registry.Nodes, Namespace: "ignored", Name: "a"}, "/api/v1/nodes/a"},
		{registry.Key{Kind: registry.IPAddresses, Name: "fd00::1"}, "/apis/networking.k8s.io/v1/ipaddresses/fd00::1"},
		{registry.Key{Kind: registry.Services, Namespace: "a/b", Name: "c?d/../e"}, "/api/v1/namespaces/a%2Fb/services/c%3Fd%2F..%2Fe"},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, Path(tt.key)); diff != "" {
			t.Errorf("Path(%v) (-want +got):\n%s", tt.key, diff)
		}
	}
}

func TestReady(t *testing.T) {
	tests := []struct {
		code       int
		body, want string
	}{
		{http.StatusOK, "ok", "<nil>"},
		{http.StatusInternalServerError, "[+]ping ok\n[-]proxy failed: listeners are not open yet\n[-]bootstrap failed: no\nreadyz check failed\n", "proxy failed: listeners are not open yet"},
		{http.StatusInternalServerError, strings.Repeat("[+]a check that has passed ok\n", 9) + "[-]proxy failed: " + strings.Repeat("x", 500) + " the end\nreadyz check failed\n", "proxy failed: " + strings.Repeat("x", 500) + " the end"},
		{http.StatusNotFound, "who?", "GET /readyz: 404 Not Found: who?"},
	}
	for _, tt := range tests {
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(tt.code)
			io.WriteString(w, tt.body)
		})
		if err := c.Ready(t.Context()); fmt.Sprint(err) != tt.want {
			t.Errorf("%d: %v, want %q", tt.code, err, tt.want)
		}
	}
}

// A request about an object without a name would be one about all of them.
func TestNamelessObject(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("sent %s %s", r.Method, r.URL)
	})
	key := registry.Key{Kind: registry.Services, Namespace: "default"}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "a-"}}
	calls := map[string]func() error{
		"get":    func() error { _, err := c.Get(t.Context(), key); return err },
		"update": func() error { _, err := c.Update(t.Context(), svc); return err },
		"status": func() error { _, err := c.UpdateStatus(t.Context(), svc); return err },
		"apply":  func() error { _, _, err := c.Apply(t.Context(), key, nil, ApplyOptions{}); return err },
		"patch": func() error {
			_, err := c.Patch(t.Context(), key, types.MergePatchType, nil, PatchOptions{})
			return err
		},
		"delete": func() error { return c.Delete(t.Context(), key, metav1.DeleteOptions{}) },
		"renew":  func() error { return c.RenewLease(t.Context(), "") },
		"revoke": func() error { return c.RevokeLease(t.Context(), "") },
	}
	for name, call := range calls {
		if err := call(); err == nil || !strings.Contains(err.Error(), "without a name") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestRequests(t *testing.T) {
	var got string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = r.Method + " " + r.URL.RequestURI() + " " + string(body)
		io.WriteString(w, `{"metadata":{"name":"x","resourceVersion":"7"}}`)
	})
	ctx, key := t.Context(), registry.Key{Kind: registry.Services, Namespace: "a", Name: "b"}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}}
	const body = `{"kind":"Service","apiVersion":"v1","metadata":{"name":"b","namespace":"a"},"spec":{},"status":{"loadBalancer":{}}}`
	tests := map[string]struct {
		call func() error
		want string
	}{
		"get":    {func() error { _, err := c.Get(ctx, key); return err }, "GET /api/v1/namespaces/a/services/b "},
		"create": {func() error { _, err := c.Create(ctx, svc); return err }, "POST /api/v1/namespaces/a/services " + body},
		"update": {func() error { _, err := c.Update(ctx, svc); return err }, "PUT /api/v1/namespaces/a/services/b " + body},
		"apply": {func() error {
			_, _, err := c.Apply(ctx, key, []byte("{}"), ApplyOptions{FieldManager: "me", Force: true, Subresource: "status"})
			return err
		}, "PATCH /api/v1/namespaces/a/services/b/status?fieldManager=me&fieldValidation=Strict&force=true {}"},
		"patch": {func() error {
			_, err := c.Patch(ctx, key, types.JSONPatchType, []byte("[]"), PatchOptions{FieldManager: "me", Subresource: "status"})
			return err
		}, "PATCH /api/v1/namespaces/a/services/b/status?fieldManager=me []"},
		"raw": {func() error {
			resp, err := c.Raw(ctx, "/a?b=c%2F")
			if err == nil {
				resp.Body.Close()
			}
			return err
		}, "GET /a?b=c%2F "},
		"status": {func() error { _, err := c.UpdateStatus(ctx, svc); return err }, "PUT /api/v1/namespaces/a/services/b/status " + body},
		"delete": {func() error { return c.Delete(ctx, key, metav1.DeleteOptions{GracePeriodSeconds: new(int64(3))}) },
			`DELETE /api/v1/namespaces/a/services/b {"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":3}`},
		"list": {func() error {
			_, err := c.List(ctx, registry.Pods, "", ListOptions{LabelSelector: "a=b", FieldSelector: "c=d"})
			return err
		}, "GET /api/v1/pods?fieldSelector=c%3Dd&labelSelector=a%3Db "},
		"lease": {func() error { _, err := c.GrantLease(ctx, 5*time.Second); return err },
			`POST /apis/usher.internal/v1/leases {"kind":"Lease","apiVersion":"usher.internal/v1","metadata":{},"spec":{"ttlSeconds":5}}`},
		"renew": {func() error { return c.RenewLease(ctx, "1f") },
			`PUT /apis/usher.internal/v1/leases/1f {"kind":"Lease","apiVersion":"usher.internal/v1","metadata":{"name":"1f"},"spec":{"ttlSeconds":0}}`},
		"revoke": {func() error { return c.RevokeLease(ctx, "1f") }, "DELETE /apis/usher.internal/v1/leases/1f "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := tt.call(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestListKnowsItsKind(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"kind":"PodList","metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"p"}}]}`)
	})
	list, err := c.List(t.Context(), registry.Pods, "a", ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if list.ResourceVersion != "9" || len(list.Items) != 1 || list.Items[0].GetObjectKind().GroupVersionKind() != registry.Pods.GroupVersionKind {
		t.Errorf("list %+v", list)
	}
}

func TestErrors(t *testing.T) {
	status := apierrors.NewNotFound(registry.Services.GroupResource(), "b").Status()
	tests := map[string]struct {
		code     int
		body     string
		notFound bool
		want     string
	}{
		"a Status":  {404, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"` + `services \"b\" not found","reason":"NotFound","code":404}`, true, status.Message},
		"a page":    {404, "<html>no\n", false, "GET /api/v1/namespaces/a/services/b: 404 Not Found: <html>no"},
		"no JSON":   {200, "hello", false, "read the answer to GET /api/v1/namespaces/a/services/b: invalid character 'h' looking for beginning of value"},
		"nothing":   {500, "", false, "GET /api/v1/namespaces/a/services/b: 500 Internal Server Error: "},
		"long page": {502, strings.Repeat("x", 5000), false, "GET /api/v1/namespaces/a/services/b: 502 Bad Gateway: " + strings.Repeat("x", 200)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(tt.code)
				io.WriteString(w, tt.body)
			})
			obj, err := c.Get(t.Context(), registry.Key{Kind: registry.Services, Namespace: "a", Name: "b"})
			if obj != nil || err == nil {
				t.Fatalf("object %v, error %v", obj, err)
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if apierrors.IsNotFound(err) != tt.notFound {
				t.Errorf("IsNotFound(%v) = %t", err, !tt.notFound)
			}
		})
	}
}

// The token goes where it was meant to go, and not where a server points.
func TestTokenStaysHere(t *testing.T) {
	var elsewhere atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Store(true) }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer secret" {
			t.Errorf("Authorization: %q", got)
		}
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	c := newClient(t, server.URL+"/", "secret")
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "307 Temporary Redirect") {
		t.Errorf("error %v", err)
	}
	if elsewhere.Load() {
		t.Error("the redirect was followed")
	}
}

// Without a daemon the error says what, why, and what to do.
func TestNoDaemon(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "left")
	if err := os.WriteFile(left, nil, 0o600); err != nil { // a file in the place of a socket refuses too
		t.Fatal(err)
	}
	for _, server := range []string{"unix:" + dir + "/none", "unix:" + left, "http://127.0.0.1:1"} {
		_, err := newClient(t, server, "").Status(t.Context())
		for _, want := range []string{"the daemon is not running", "nobody listens at " + server, "usher serve", "USHER_SERVER"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want %q in it", server, err, want)
			}
		}
	}
}

// Of another user's daemon the error says which way is open to this one.
func TestDaemonOfAnotherUser(t *testing.T) {
	c := newClient(t, "unix:/run/usher/usher.sock", "")
	err := c.unreachable(trust(1001, 1000))
	for _, want := range []string{"belongs to another user", "--server http://127.0.0.1:7080", "run as that user", "usher serve"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

func TestTrust(t *testing.T) {
	for _, tt := range []struct {
		owner, self uint32
		want        bool
	}{{1000, 1000, true}, {0, 1000, true}, {1001, 1000, false}, {1000, 0, true}, {65534, 1000, false}} {
		err := trust(tt.owner, tt.self)
		if (err == nil) != tt.want || err != nil && !errors.Is(err, os.ErrPermission) {
			t.Errorf("trust(%d, %d) = %v", tt.owner, tt.self, err)
		}
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// A list that a server sends in parts is asked for to its end.
func TestParts(t *testing.T) {
	var queries []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		queries = append(queries, r.URL.RawQuery)
		next, name := "more", "a"
		if r.URL.Query().Get("continue") == "more" {
			next, name = "", "b"
		}
		fmt.Fprintf(w, `{"metadata":{"continue":%q,"resourceVersion":"7"},"items":[{"metadata":{"name":%q}}],"rows":[{"cells":[%q]}]}`, next, name, name)
	})
	list, err := c.List(t.Context(), registry.Pods, "", ListOptions{Limit: 1})
	if err != nil || len(list.Items) != 2 || list.Items[1].GetName() != "b" || list.ResourceVersion != "7" {
		t.Errorf("list %v, error %v", list, err)
	}
	table, err := c.Table(t.Context(), registry.Key{Kind: registry.Pods}, ListOptions{Limit: 1}, metav1.IncludeObject)
	if err != nil || len(table.Rows) != 2 || table.Rows[1].Cells[0] != "b" {
		t.Errorf("table %v, error %v", table, err)
	}
	want := []string{"limit=1", "continue=more&limit=1", "includeObject=Object&limit=1", "continue=more&includeObject=Object&limit=1"}
	if diff := cmp.Diff(want, queries); diff != "" {
		t.Errorf("queries (-want +got):\n%s", diff)
	}
}
