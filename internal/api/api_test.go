package api

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/version"

	"usher/registry"
)

// testTimeout ends what would otherwise hang.
const testTimeout = 60 * time.Second

// newTestServer returns a Server over a Store that has objects at revision.
// Writes that reach the Writer panic.
func newTestServer(t testing.TB, revision int64, objects ...registry.Object) (*Server, *registry.Store) {
	t.Helper()
	store := registry.NewStore()
	store.Replace(revision, objects)
	s := New(Options{
		Store: store, Writer: new(Writer), Tokens: map[Role]string{RoleAdmin: "secret", RoleView: "glimpse"}, ClusterDomain: "cluster.local",
		Version: version.Info{Major: "1", Minor: "37", GitVersion: "v1.37.0+usher"},
		Status:  func() Status { return Status{NodeName: "laptop", Revision: store.Snapshot().Revision()} },
		Log:     slog.New(slog.NewTextHandler(t.Output(), nil)),
		Views: func(k registry.FrontendKey) []netip.AddrPort {
			ip := k.Address.As4()
			return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 96, ip[2], ip[3]}), k.Port+8000)}
		},
	})
	t.Cleanup(func() { s.Close() })
	return s, store
}

func at[T registry.Object](revision int64, obj T) T {
	obj.SetResourceVersion(strconv.FormatInt(revision, 10))
	return obj
}

func service(namespace, name, ip string) *corev1.Service {
	svc := registry.Services.New().(*corev1.Service)
	svc.Namespace, svc.Name = namespace, name
	svc.Labels = map[string]string{"app": name}
	svc.Spec = corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip},
		Selector: map[string]string{"app": name},
		Ports:    []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)}},
	}
	return svc
}

func pod(namespace, name, app, ip string, ready bool) *corev1.Pod {
	p := registry.Pods.New().(*corev1.Pod)
	p.Namespace, p.Name = namespace, name
	p.Labels = map[string]string{"app": app}
	p.Spec.Containers = []corev1.Container{{Name: "main"}}
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip}
	if ready {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return p
}

func namespace(name string) *corev1.Namespace {
	ns := registry.Namespaces.New().(*corev1.Namespace)
	ns.Name = name
	ns.Status.Phase = corev1.NamespaceActive
	return ns
}

func put(store *registry.Store, revision int64, obj registry.Object) {
	store.Apply(revision, []registry.Write{{Key: registry.KeyOf(obj), Object: at(revision, obj)}})
}

func remove(store *registry.Store, revision int64, key registry.Key) {
	store.Apply(revision, []registry.Write{{Key: key}})
}

// A reply is what came back, with the Status of an error.
type reply struct {
	code   int
	header http.Header
	body   string
	status metav1.Status
}

// ask sends a request to h. headers are pairs.
func ask(t *testing.T, h http.Handler, method, url, body string, headers ...string) reply {
	t.Helper()
	r := httptest.NewRequest(method, url, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return readReply(t, w.Result())
}

func readReply(t *testing.T, resp *http.Response) reply {
	t.Helper()
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := reply{code: resp.StatusCode, header: resp.Header, body: string(data)}
	if resp.StatusCode >= 400 && strings.HasPrefix(resp.Header.Get("Content-Type"), mediaJSON) {
		if err := json.Unmarshal(data, &out.status); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		if out.status.Kind != "Status" || out.status.APIVersion != "v1" || int(out.status.Code) != out.code {
			t.Errorf("not a Status of code %d: %s", out.code, data)
		}
	}
	return out
}

// decode reads a JSON answer.
func decode[T any](t *testing.T, body string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return v
}

// encode writes a JSON body.
func encode(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
