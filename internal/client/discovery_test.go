package client

import (
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestDiscovery(t *testing.T) {
	answers := map[string]string{
		"/api":               `{"versions":["v1"]}`,
		"/apis":              `{"groups":[{"name":"a.io","versions":[{"version":"v1"},{"version":"v2"}]}]}`,
		"/apis/a.io/v2":      `{"groupVersion":"a.io/v2","resources":[{"name":"bs"}]}`,
		"/openapi/v3/api/v1": `{"openapi":"3.0.0","components":{"schemas":{"B":{"description":"a b"}}}}`,
	}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		text, ok := answers[r.URL.RequestURI()]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			text = `{"kind":"Status","reason":"NotFound","code":404}`
		}
		io.WriteString(w, text)
	})
	versions, err := c.GroupVersions(t.Context())
	want := []schema.GroupVersion{{Version: "v1"}, {Group: "a.io", Version: "v1"}, {Group: "a.io", Version: "v2"}}
	if diff := cmp.Diff(want, versions); diff != "" || err != nil {
		t.Errorf("error %v, versions (-want +got):\n%s", err, diff)
	}
	resources, err := c.Resources(t.Context(), want[2])
	if err != nil || len(resources.APIResources) != 1 || resources.APIResources[0].Name != "bs" {
		t.Errorf("resources %v, error %v", resources, err)
	}
	doc, err := c.OpenAPI(t.Context(), want[0])
	if err != nil || doc.Components.Schemas["B"].Description != "a b" {
		t.Errorf("document %v, error %v", doc, err)
	}
	if _, err := c.OpenAPI(t.Context(), want[2]); !apierrors.IsNotFound(err) {
		t.Errorf("no document: error %v", err)
	}
}
