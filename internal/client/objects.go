package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
)

// Get returns an object.
func (c *Client) Get(ctx context.Context, key registry.Key) (registry.Object, error) {
	path, err := objectPath(key)
	if err != nil {
		return nil, err
	}
	out := key.Kind.New()
	if err := c.JSON(ctx, http.MethodGet, path, nil, "", nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Create creates an object and returns it as stored.
func (c *Client) Create(ctx context.Context, obj registry.Object) (registry.Object, error) {
	key := registry.KeyOf(obj)
	key.Name = ""
	return c.send(ctx, http.MethodPost, Path(key), obj)
}

// Update replaces an object and returns it as stored. If it has a
// resourceVersion, that must be the present one.
func (c *Client) Update(ctx context.Context, obj registry.Object) (registry.Object, error) {
	path, err := objectPath(registry.KeyOf(obj))
	if err != nil {
		return nil, err
	}
	return c.send(ctx, http.MethodPut, path, obj)
}

// UpdateStatus replaces the status of an object and returns it as stored.
func (c *Client) UpdateStatus(ctx context.Context, obj registry.Object) (registry.Object, error) {
	path, err := objectPath(registry.KeyOf(obj))
	if err != nil {
		return nil, err
	}
	return c.send(ctx, http.MethodPut, path+"/status", obj)
}

func (c *Client) send(ctx context.Context, method, path string, obj registry.Object) (registry.Object, error) {
	kind := registry.KindOf(obj)
	obj.GetObjectKind().SetGroupVersionKind(kind.GroupVersionKind)
	out := kind.New()
	var query url.Values
	if c.DryRun {
		query = url.Values{"dryRun": {metav1.DryRunAll}}
	}
	if err := c.JSON(ctx, method, path, query, "", obj, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Delete deletes an object. It may still be there when Delete returns: a Pod
// that a process is behind terminates first.
func (c *Client) Delete(ctx context.Context, key registry.Key, opts metav1.DeleteOptions) error {
	path, err := objectPath(key)
	if err != nil {
		return err
	}
	if c.DryRun {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	opts.TypeMeta = metav1.TypeMeta{Kind: "DeleteOptions", APIVersion: "v1"}
	return c.JSON(ctx, http.MethodDelete, path, nil, "", opts, nil)
}

// A List is the objects of a Kind at one revision.
type List struct {
	metav1.ListMeta
	Items []registry.Object
}

// ListOptions select the objects of a list or a watch.
type ListOptions struct {
	LabelSelector, FieldSelector string

	// ResourceVersion is that from which on a watch has the changes. If empty,
	// it begins with what there is. It must not be set for a list.
	ResourceVersion string
}

func (o ListOptions) query() url.Values {
	q := make(url.Values)
	for key, value := range map[string]string{
		"labelSelector": o.LabelSelector, "fieldSelector": o.FieldSelector, "resourceVersion": o.ResourceVersion,
	} {
		if value != "" {
			q.Set(key, value)
		}
	}
	return q
}

// List returns the objects of a Kind in a namespace, or in all when it is "".
func (c *Client) List(ctx context.Context, kind *registry.Kind, namespace string, o ListOptions) (*List, error) {
	var raw struct {
		metav1.ListMeta `json:"metadata"`
		Items           []json.RawMessage `json:"items"`
	}
	path := Path(registry.Key{Kind: kind, Namespace: namespace})
	if err := c.JSON(ctx, http.MethodGet, path, o.query(), "", nil, &raw); err != nil {
		return nil, err
	}
	list := &List{ListMeta: raw.ListMeta}
	for _, item := range raw.Items {
		obj := kind.New()
		if err := json.Unmarshal(item, obj); err != nil {
			return nil, fmt.Errorf("read the list of %s: %w", kind.Resource, err)
		}
		obj.GetObjectKind().SetGroupVersionKind(kind.GroupVersionKind)
		list.Items = append(list.Items, obj)
	}
	return list, nil
}

// acceptTable asks for tables as `kubectl get` prints them.
const acceptTable = mediaJSON + ";as=Table;v=v1;g=meta.k8s.io"

// Table returns a collection, or the one object that key names, as a table.
func (c *Client) Table(ctx context.Context, key registry.Key, o ListOptions) (*metav1.Table, error) {
	out := new(metav1.Table)
	if err := c.JSON(ctx, http.MethodGet, Path(key), o.query(), acceptTable, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}
