package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiversion "k8s.io/apimachinery/pkg/version"

	"usher/internal/api"
)

// ownPath begins the paths of what Kubernetes has not.
const ownPath = "/apis/" + api.Group + "/" + api.Version

// Status returns what the daemon says about itself.
func (c *Client) Status(ctx context.Context) (*api.Status, error) {
	out := new(api.Status)
	if err := c.JSON(ctx, http.MethodGet, ownPath+"/status", nil, "", nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Ready returns what the daemon lacks for serving, or nil.
func (c *Client) Ready(ctx context.Context) error {
	resp, err := c.Do(ctx, http.MethodGet, "/readyz", nil, "", nil)
	if err == nil {
		return resp.Body.Close()
	}
	if answer, ok := errors.AsType[*pageError](err); ok {
		if _, failed, ok := strings.Cut(answer.page, "[-]"); ok { // the first check that fails
			what, _, _ := strings.Cut(failed, "\n")
			return errors.New(what)
		}
	}
	return err
}

// Ejections returns the backends of a Service that the daemon's node tries last.
func (c *Client) Ejections(ctx context.Context, namespace, service string) (*api.EjectionList, error) {
	query := url.Values{"namespace": {namespace}, "service": {service}}
	out := new(api.EjectionList)
	if err := c.JSON(ctx, http.MethodGet, ownPath+"/ejections", query, "", nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// ConnectionOptions say which connections are asked for.
type ConnectionOptions struct {
	Namespace string   // "": all
	Services  []string // by name; none: all
	Limit     int      // 0: as the server thinks right
}

// Connections returns what is open on the daemon's node.
func (c *Client) Connections(ctx context.Context, o ConnectionOptions) (*api.ConnectionList, error) {
	query := url.Values{}
	if o.Namespace != "" {
		query.Set("namespace", o.Namespace)
	}
	for _, name := range o.Services {
		query.Add("service", name)
	}
	if o.Limit > 0 {
		query.Set("limit", strconv.Itoa(o.Limit))
	}
	out := new(api.ConnectionList)
	if err := c.JSON(ctx, http.MethodGet, ownPath+"/connections", query, "", nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Explain asks the daemon what it would do.
func (c *Client) Explain(ctx context.Context, q api.Question) (*api.Explanation, error) {
	query := url.Values{"about": {q.About}, "target": {q.Target}, "namespace": {q.Namespace}}
	if q.Type != "" {
		query.Set("type", q.Type)
	}
	out := new(api.Explanation)
	if err := c.JSON(ctx, http.MethodGet, ownPath+"/explain", query, "", nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// ExplainService returns what becomes of the endpoints of a Service.
func (c *Client) ExplainService(ctx context.Context, namespace, name string) (*api.ServiceReasons, error) {
	out := new(api.ServiceReasons)
	path := ownPath + "/explain/" + url.PathEscape(namespace) + "/" + url.PathEscape(name)
	if err := c.JSON(ctx, http.MethodGet, path, nil, "", nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Version returns the version of the daemon.
func (c *Client) Version(ctx context.Context) (*apiversion.Info, error) {
	out := new(apiversion.Info)
	if err := c.JSON(ctx, http.MethodGet, "/version", nil, "", nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// GrantLease grants a lease, of whole seconds, and returns its name.
func (c *Client) GrantLease(ctx context.Context, ttl time.Duration) (string, error) {
	lease := newLease("")
	lease.Spec.TTLSeconds = int64(ttl / time.Second)
	if err := c.JSON(ctx, http.MethodPost, ownPath+"/leases", nil, "", lease, &lease); err != nil {
		return "", err
	}
	return lease.Name, nil
}

// RenewLease restarts the time of a lease.
func (c *Client) RenewLease(ctx context.Context, name string) error {
	path, err := leasePath(name)
	if err != nil {
		return err
	}
	return c.JSON(ctx, http.MethodPut, path, nil, "", newLease(name), nil)
}

// RevokeLease ends a lease, and with it every object under it.
func (c *Client) RevokeLease(ctx context.Context, name string) error {
	path, err := leasePath(name)
	if err != nil {
		return err
	}
	return c.JSON(ctx, http.MethodDelete, path, nil, "", nil, nil)
}

func newLease(name string) api.Lease {
	return api.Lease{
		TypeMeta:   metav1.TypeMeta{Kind: "Lease", APIVersion: api.Group + "/" + api.Version},
		ObjectMeta: metav1.ObjectMeta{Name: name},
	}
}

func leasePath(name string) (string, error) {
	if name == "" {
		return "", fmt.Errorf("lease without a name")
	}
	return ownPath + "/leases/" + url.PathEscape(name), nil
}
