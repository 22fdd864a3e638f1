package client

import (
	"context"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/spec3"

	"usher/internal/openapi"
)

// GroupVersions returns what versions of which groups the daemon serves: those
// of the group without a name first.
func (c *Client) GroupVersions(ctx context.Context) ([]schema.GroupVersion, error) {
	var core metav1.APIVersions
	if err := c.JSON(ctx, http.MethodGet, "/api", nil, "", nil, &core); err != nil {
		return nil, err
	}
	var groups metav1.APIGroupList
	if err := c.JSON(ctx, http.MethodGet, "/apis", nil, "", nil, &groups); err != nil {
		return nil, err
	}
	var all []schema.GroupVersion
	for _, version := range core.Versions {
		all = append(all, schema.GroupVersion{Version: version})
	}
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			all = append(all, schema.GroupVersion{Group: g.Name, Version: v.Version})
		}
	}
	return all, nil
}

// Resources returns what there is in a group and version.
func (c *Client) Resources(ctx context.Context, gv schema.GroupVersion) (*metav1.APIResourceList, error) {
	out := new(metav1.APIResourceList)
	if err := c.JSON(ctx, http.MethodGet, "/"+openapi.Root(gv), nil, "", nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// OpenAPI returns the OpenAPI v3 document of a group and version.
func (c *Client) OpenAPI(ctx context.Context, gv schema.GroupVersion) (*spec3.OpenAPI, error) {
	out := new(spec3.OpenAPI)
	if err := c.JSON(ctx, http.MethodGet, "/openapi/v3/"+openapi.Root(gv), nil, "", nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Raw sends a GET of a path, with its query, and returns the response. The
// caller must close its body.
func (c *Client) Raw(ctx context.Context, path string) (*http.Response, error) {
	return c.Do(ctx, http.MethodGet, path, nil, mediaJSON+", */*", nil)
}
