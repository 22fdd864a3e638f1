// Package client speaks the Kubernetes REST API that a daemon serves, over its
// unix socket or its control port. The command line and `usher run` use it.
//
// It keeps nothing: no cache, no retries, no reconnection. It follows no
// redirects and knows no proxies: a daemon is near. Errors that the server
// answers are *apierrors.StatusError, whatever else goes wrong is not.
package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"usher/internal/openapi"
	"usher/registry"
)

// A Client sends requests to one daemon. It is safe for concurrent use.
type Client struct {
	// DryRun asks for everything of a write but the write.
	DryRun bool

	// Program is what the Client calls itself. It becomes the owner of what is
	// created and updated, so that it is not taken for another one's: "usher" if
	// empty.
	Program string

	// Warn is called with each warning of the server. If nil, nobody is told.
	Warn func(text string)

	server    string // as it was given, for messages
	base      string
	token     string
	transport *http.Transport
	http      *http.Client
}

// New returns a Client of server, "unix:/path" or "http(s)://host:port". A
// token is needed to write over the latter, and to read from another host. The
// caller must Close the Client.
func New(server, token string) (*Client, error) {
	c := &Client{server: server, base: strings.TrimRight(server, "/"), token: token, transport: new(http.Transport)}
	if path, ok := strings.CutPrefix(server, "unix:"); ok {
		if path == "" {
			return nil, errors.New(`server "unix:": the path of the socket is missing`)
		}
		c.base = "http://localhost"
		c.transport.DialContext = socket(path).dial
	} else if u, err := url.Parse(server); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("server %q: want unix:/path or http(s)://host:port", server)
	}
	c.http = &http.Client{
		Transport:     c.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// Trust makes c accept a server over https whose certificate is signed by one
// of the authorities in a PEM file, and no other. It is called before the first
// request.
func (c *Client) Trust(authorities []byte) error {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorities) {
		return errors.New("there is no certificate in it")
	}
	c.transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	return nil
}

// Close closes the connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Path returns the path of a collection, or of the object that key names. A
// namespaced kind without a namespace is the collection in all of them.
func Path(key registry.Key) string {
	k := key.Kind
	path := "/" + openapi.Root(k.GroupVersion())
	if k.Namespaced && key.Namespace != "" {
		path += "/namespaces/" + url.PathEscape(key.Namespace)
	}
	path += "/" + k.Resource
	if key.Name != "" {
		path += "/" + url.PathEscape(key.Name)
	}
	return path
}

// objectPath is Path for one object. It refuses a key without a name: a
// request for the object would be one for the whole collection.
func objectPath(key registry.Key) (string, error) {
	if key.Name == "" {
		return "", fmt.Errorf("%s without a name", key.Kind.Singular)
	}
	return Path(key), nil
}

// Do sends a request and returns the response if it is a success. The caller
// must close its body.
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, accept string, body []byte) (*http.Response, error) {
	return c.do(ctx, request{method: method, path: path, query: query, accept: accept, contentType: mediaJSON, body: body})
}

// A request is what do sends.
type request struct {
	method, path string
	query        url.Values
	accept       string // JSON without
	contentType  string // of body
	body         []byte
	stream       io.Reader // in place of body, to be read for as long as the answer is
}

func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	body := r.stream
	if body == nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, err
	}
	if r.stream != nil {
		req.Header.Set("Expect", "100-continue") // who refuses does not wait for the end of it
	}
	if r.stream != nil || len(r.body) > 0 {
		req.Header.Set("Content-Type", r.contentType)
	}
	req.Header.Set("Accept", cmp.Or(r.accept, mediaJSON))
	req.Header.Set("User-Agent", cmp.Or(c.Program, "usher"))
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	c.warn(resp.Header)
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, statusError(resp, r.method, r.path)
}

func (c *Client) warn(h http.Header) {
	warnings, _ := utilnet.ParseWarningHeaders(h.Values("Warning")) // those that can be read
	for _, w := range warnings {
		if c.Warn != nil && w.Code == 299 {
			c.Warn(w.Text)
		}
	}
}

const mediaJSON = "application/json"

// statusError reads the Status that came instead of an answer.
func statusError(resp *http.Response, method, path string) error {
	const limit = 1 << 20
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	var status metav1.Status
	if json.Unmarshal(data, &status) == nil && status.Kind == "Status" {
		return apierrors.FromObject(&status)
	}
	return &pageError{what: method + " " + path + ": " + resp.Status, page: string(bytes.TrimSpace(data))}
}

// A pageError is an answer for people: that of /readyz, or of some other server.
type pageError struct{ what, page string }

func (e *pageError) Error() string {
	const shown = 200 // of what may be a whole page
	return e.what + ": " + e.page[:min(len(e.page), shown)]
}

// ErrNotRunning says that nobody listens where the daemon should.
var ErrNotRunning = errors.New("the daemon is not running")

// unreachable says why there was no answer, and what to do about it.
func (c *Client) unreachable(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("ask %s: %w", c.server, err)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nobody listens at %s"+
			"\n  start it:           usher serve"+
			"\n  or name another:    --server or USHER_SERVER", ErrNotRunning, c.server)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s belongs to another user: %w"+
			"\n  to look at it, and for exec: --server http://127.0.0.1:7080, its control port"+
			"\n  to change it:                run as that user"+
			"\n  or start one of your own:    usher serve", c.server, err)
	}
	if unknown := new(x509.UnknownAuthorityError); errors.As(err, unknown) {
		return fmt.Errorf("ask %s: %w"+
			"\n  if it is a daemon's: --certificate-authority FILE, a copy of ca.crt out of its state directory", c.server, err)
	}
	return fmt.Errorf("ask %s: %w", c.server, err)
}

// JSON sends a request, with in as its body unless that is nil, and decodes
// the answer into out unless that is nil.
func (c *Client) JSON(ctx context.Context, method, path string, query url.Values, accept string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("encode the body of %s %s: %w", method, path, err)
		}
	}
	resp, err := c.Do(ctx, method, path, query, accept, body)
	if err != nil {
		return err
	}
	return decodeBody(resp, method+" "+path, out)
}

// decodeBody decodes an answer into out, unless that is nil, and closes it.
func decodeBody(resp *http.Response, what string, out any) error {
	defer resp.Body.Close()
	if out != nil {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			return fmt.Errorf("read the answer to %s: %w", what, err)
		}
	}
	io.Copy(io.Discard, resp.Body) // to the end, so that the connection can be used again
	return nil
}
