package api

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

func TestExplain(t *testing.T) {
	store := registry.NewStore()
	h := New(Options{Store: store, Explain: func(q Question) (Explanation, error) {
		if q.Target == "" {
			return Explanation{}, errors.New("a target is needed")
		}
		return Explanation{Question: q, Works: true}, nil
	}}).Handler()
	ask := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, "/apis/usher.internal/v1/explain"+path, nil))
		return w.Code, w.Body.String()
	}
	const question = "?about=dns&target=a.b&type=SRV&namespace=finance"
	svc := registry.Services.New().(*corev1.Service)
	svc.Namespace, svc.Name = "finance", "web"
	svc.Spec = corev1.ServiceSpec{ClusterIP: "10.96.0.5", Ports: []corev1.ServicePort{{Port: 80}, {Name: "s", Port: 81, Protocol: corev1.ProtocolSCTP}}}
	eps := registry.Endpoints.New().(*corev1.Endpoints)
	eps.Namespace, eps.Name = "finance", "web"
	eps.Subsets = []corev1.EndpointSubset{{
		NotReadyAddresses: []corev1.EndpointAddress{{IP: "10.1.0.1"}}, Ports: []corev1.EndpointPort{{Port: 8080}},
	}}
	for _, obj := range []registry.Object{svc, eps} {
		registry.SetDefaults(obj)
	}
	store.Replace(1, []registry.Object{svc, eps})
	for _, tt := range []struct {
		method, path string
		code         int
		body         string
	}{
		{http.MethodGet, question, http.StatusOK, `"kind":"Explanation","apiVersion":"usher.internal/v1","question":{"about":"dns","target":"a.b","type":"SRV","namespace":"finance"}`},
		{http.MethodGet, "", http.StatusBadRequest, "a target is needed"},
		{http.MethodPost, question, http.StatusMethodNotAllowed, ""},
		{http.MethodGet, "/finance/web", http.StatusOK, `"reason":"not ready"`},
		{http.MethodGet, "/finance/web", http.StatusOK, `"why":"SCTP is stored and not proxied"`},
		{http.MethodGet, "/finance/nope", http.StatusNotFound, `services \"nope\" not found`},
		{http.MethodGet, "/finance", http.StatusNotFound, ""},
		{http.MethodDelete, "/finance/web", http.StatusMethodNotAllowed, ""},
	} {
		if code, body := ask(tt.method, tt.path); code != tt.code || !strings.Contains(body, tt.body) {
			t.Errorf("%s %s: %d %s, want %d with %s", tt.method, tt.path, code, body, tt.code, tt.body)
		}
	}
}
