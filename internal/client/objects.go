package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

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

// ApplyOptions are those of server-side apply.
type ApplyOptions struct {
	FieldManager string // who becomes the owner of what is set
	Force        bool   // take over what others own, instead of an error
	Subresource  string // "" or "status"
}

// Apply merges a configuration, a JSON or YAML document, into the object that
// key names, or creates it, and returns it as stored.
func (c *Client) Apply(ctx context.Context, key registry.Key, configuration []byte, o ApplyOptions) (obj registry.Object, created bool, err error) {
	query := url.Values{"force": {strconv.FormatBool(o.Force)}, "fieldValidation": {metav1.FieldValidationStrict}}
	return c.patch(ctx, key, types.ApplyYAMLPatchType, configuration, PatchOptions{o.FieldManager, o.Subresource}, query)
}

// PatchOptions are those of a patch.
type PatchOptions struct {
	FieldManager string // who becomes the owner of what is set; "": the Program
	Subresource  string // "" or "status"
}

// Patch changes an object by a patch of that type, JSON, and returns it as
// stored. For server-side apply there is Apply.
func (c *Client) Patch(ctx context.Context, key registry.Key, t types.PatchType, patch []byte, o PatchOptions) (registry.Object, error) {
	obj, _, err := c.patch(ctx, key, t, patch, o, make(url.Values))
	return obj, err
}

// patch sends a patch of any type.
func (c *Client) patch(ctx context.Context, key registry.Key, t types.PatchType, patch []byte, o PatchOptions, query url.Values) (obj registry.Object, created bool, err error) {
	path, err := objectPath(key)
	if err != nil {
		return nil, false, err
	}
	if o.Subresource != "" {
		path += "/" + url.PathEscape(o.Subresource)
	}
	if o.FieldManager != "" {
		query.Set("fieldManager", o.FieldManager)
	}
	if c.DryRun {
		query.Set("dryRun", metav1.DryRunAll)
	}
	resp, err := c.do(ctx, request{method: http.MethodPatch, path: path, query: query, contentType: string(t), body: patch})
	if err != nil {
		return nil, false, err
	}
	obj = key.Kind.New()
	return obj, resp.StatusCode == http.StatusCreated, decodeBody(resp, http.MethodPatch+" "+path, obj)
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

	// InitialEvents asks a watch to say, by a bookmark, when it has told what
	// there is (KEP-3157). It excludes ResourceVersion.
	InitialEvents bool

	// Limit is how many objects of a list the server may send at once; what is
	// left is asked for. 0 is any number.
	Limit int64
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
	if o.InitialEvents {
		q.Set("sendInitialEvents", "true")
		q.Set("resourceVersionMatch", string(metav1.ResourceVersionMatchNotOlderThan))
		q.Set("allowWatchBookmarks", "true")
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.FormatInt(o.Limit, 10))
	}
	return q
}

// List returns the objects of a Kind in a namespace, or in all when it is "".
func (c *Client) List(ctx context.Context, kind *registry.Kind, namespace string, o ListOptions) (*List, error) {
	path := Path(registry.Key{Kind: kind, Namespace: namespace})
	list := new(List)
	for query := o.query(); ; query.Set("continue", list.Continue) {
		var raw struct {
			metav1.ListMeta `json:"metadata"`
			Items           []json.RawMessage `json:"items"`
		}
		if err := c.JSON(ctx, http.MethodGet, path, query, "", nil, &raw); err != nil {
			return nil, err
		}
		list.ListMeta = raw.ListMeta
		for _, item := range raw.Items {
			obj := kind.New()
			if err := json.Unmarshal(item, obj); err != nil {
				return nil, fmt.Errorf("read the list of %s: %w", kind.Resource, err)
			}
			obj.GetObjectKind().SetGroupVersionKind(kind.GroupVersionKind)
			list.Items = append(list.Items, obj)
		}
		if list.Continue == "" {
			return list, nil
		}
	}
}

// acceptTable asks for tables as `kubectl get` prints them.
const acceptTable = mediaJSON + ";as=Table;v=v1;g=meta.k8s.io"

// Table returns a collection, or the one object that key names, as a table.
// Its rows have the objects as include says: their metadata alone, or all.
func (c *Client) Table(ctx context.Context, key registry.Key, o ListOptions, include metav1.IncludeObjectPolicy) (*metav1.Table, error) {
	query := o.query()
	query.Set("includeObject", string(include))
	var rows []metav1.TableRow
	for {
		out := new(metav1.Table)
		if err := c.JSON(ctx, http.MethodGet, Path(key), query, acceptTable, nil, out); err != nil {
			return nil, err
		}
		rows = append(rows, out.Rows...)
		if out.Continue == "" {
			out.Rows = rows
			return out, nil
		}
		query.Set("continue", out.Continue)
	}
}
