package api

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What is refused before it reaches the Writer.
func TestRefusedWrites(t *testing.T) {
	const (
		services = "/api/v1/namespaces/finance/services"
		leases   = "/apis/usher.internal/v1/leases"
		pay      = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"pay","namespace":"finance"}}`
	)
	s, _ := newTestServer(t, 9)
	tests := []struct {
		name, method, url, contentType, body string
		code                                 int
		reason                               metav1.StatusReason
		message                              string // a part of it
	}{
		{"form", "POST", services, "application/x-www-form-urlencoded", pay, 415, "UnsupportedMediaType",
			"the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
		{"protobuf", "PUT", services + "/pay", mediaProtobuf, "k8s\x00", 400, "BadRequest", "parse error: empty body"},
		{"no protobuf", "PUT", services + "/pay", mediaProtobuf, "{}", 400, "BadRequest", "does not appear to be a protobuf message"},
		{"not JSON", "POST", services, mediaJSON, "{", 400, "BadRequest", "the object provided is unrecognized (must be of type Service): couldn't get version/kind; parse error: unexpected end of JSON input"},
		{"empty", "POST", services, mediaJSON, "", 400, "BadRequest", ""},
		{"unknown field", "POST", services + "?fieldValidation=Strict", mediaYAML, "metadata: {name: pay}\nspec: {portz: []}\n", 400, "BadRequest",
			`Service in version "v1" cannot be handled as a Service: strict decoding error: unknown field "spec.portz"`},
		{"wrong type", "POST", services, mediaJSON, `{"metadata":{"name":"pay"},"spec":{"ports":"80"}}`, 400, "BadRequest", "cannot be handled as a Service"},
		{"other kind", "POST", services, mediaJSON, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"pay"}}`, 400, "BadRequest", "Pod in version \"v1\" cannot be handled as a Service"},
		{"other namespace", "POST", services, mediaJSON, strings.Replace(pay, "finance", "other", 1), 400, "BadRequest",
			"the namespace of the provided object does not match the namespace sent on the request"},
		{"other namespace, PUT", "PUT", services + "/pay", mediaJSON, strings.Replace(pay, "finance", "other", 1), 400, "BadRequest",
			"the namespace of the provided object does not match the namespace sent on the request"},
		{"other name", "PUT", services + "/shop", mediaJSON, pay, 400, "BadRequest", "the name of the object (pay) does not match the name on the URL (shop)"},
		{"other name, status", "PUT", services + "/shop/status", mediaJSON, pay, 400, "BadRequest", "the name of the object (pay) does not match the name on the URL (shop)"},
		{"no name", "PUT", services + "/shop", mediaJSON, "{}", 400, "BadRequest", "the name of the object () does not match the name on the URL (shop)"},
		{"too large", "POST", services, mediaJSON, strings.Repeat(" ", bodyLimit+1), 413, "RequestEntityTooLarge", "limit is 3145728"},
		{"too large, DELETE", "DELETE", services + "/pay", mediaJSON, strings.Repeat(" ", bodyLimit+1), 413, "RequestEntityTooLarge", "limit is 3145728"},
		{"dry run of something", "POST", services + "?dryRun=Some", mediaJSON, pay, 422, "Invalid", `dryRun: Unsupported value: ["Some"]: supported values: "All"`},
		{"dry run of something, PUT", "PUT", services + "/pay?dryRun=Some", mediaJSON, pay, 422, "Invalid", `dryRun: Unsupported value: ["Some"]: supported values: "All"`},
		{"dry run of something, DELETE", "DELETE", services + "/pay?dryRun=Some", "", "", 422, "Invalid", `dryRun: Unsupported value: ["Some"]: supported values: "All"`},
		{"dry run of something in the body", "DELETE", services + "/pay", mediaJSON, `{"dryRun":["Some"]}`, 422, "Invalid", `supported values: "All"`},
		{"dry run of a lease", "POST", leases + "?dryRun=All", mediaJSON, `{}`, 400, "BadRequest", "dryRun is not supported for leases"},
		{"unknown option", "DELETE", services + "/pay", mediaJSON, `{"gracePeriod":1}`, 400, "BadRequest", `unknown field "gracePeriod"`},
		{"no option", "DELETE", services + "/pay", mediaJSON, pay, 400, "BadRequest", "decode DeleteOptions"},
		{"other options", "DELETE", services + "/pay", mediaJSON, `{"kind":"ListOptions"}`, 400, "BadRequest", "the body of a deletion must be DeleteOptions, not ListOptions"},
		{"wrong option", "DELETE", services + "/pay?propagationPolicy=Soon", "", "", 422, "Invalid", "Unsupported value"},
		{"wrong grace", "DELETE", services + "/pay?gracePeriodSeconds=x", "", "", 400, "BadRequest", "invalid syntax"},
		{"wrong selector", "DELETE", services + "?labelSelector=a+in", "", "", 400, "BadRequest", "unable to parse"},
		{"lease of no time", "POST", leases, mediaJSON, `{"spec":{"ttlSeconds":0}}`, 422, "Invalid", "spec.ttlSeconds: Invalid value: 0: must be between 1 and 3600, inclusive"},
		{"long lease", "POST", leases, mediaJSON, `{"spec":{"ttlSeconds":3601}}`, 422, "Invalid", "must be between 1 and 3600, inclusive"},
		{"lease of another field", "POST", leases, mediaJSON, `{"spec":{"ttl":5}}`, 400, "BadRequest", `unknown field "ttl"`},
		{"lease of another name", "PUT", leases + "/a", mediaJSON, `{"metadata":{"name":"b"}}`, 400, "BadRequest", "the name of the object (b) does not match the name on the URL (a)"},
		{"lease in a form", "POST", leases, "text/plain", `{"spec":{"ttlSeconds":5}}`, 415, "UnsupportedMediaType", "unknown format"},
		{"lease, PATCH", "PATCH", leases + "/a", mediaJSON, `{}`, 405, "MethodNotAllowed", "the server does not allow this method"},
		{"leases, DELETE", "DELETE", leases, mediaJSON, `{}`, 405, "MethodNotAllowed", "the server does not allow this method"},
		{"lease of a lease", "PUT", leases + "/a/b", mediaJSON, `{}`, 404, "NotFound", "the server could not find the requested resource"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ask(t, s.Handler(), tt.method, tt.url, tt.body, "Content-Type", tt.contentType)
			if got.code != tt.code || got.status.Reason != tt.reason || !strings.Contains(got.status.Message, tt.message) {
				t.Errorf("%d %s %q,\nwant %d %s %q", got.code, got.status.Reason, got.status.Message, tt.code, tt.reason, tt.message)
			}
		})
	}
}

// A client that goes on sending after 413 is stopped: the connection closes.
func TestEndlessBody(t *testing.T) {
	s, _ := newTestServer(t, 9)
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	r, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL+"/api/v1/namespaces", endless{})
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", mediaYAML)
	resp, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := readReply(t, resp); got.code != http.StatusRequestEntityTooLarge || !resp.Close {
		t.Errorf("%d %s, close %t", got.code, got.body, resp.Close)
	}
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '#'
	}
	return len(p), nil
}

var _ io.Reader = endless{}

func TestWithoutWriter(t *testing.T) {
	s, _ := newTestServer(t, 9)
	s.opts.Writer = nil
	for _, url := range []string{"/api/v1/namespaces", "/apis/usher.internal/v1/leases"} {
		if got := ask(t, s.Handler(), "POST", url, "{}"); got.code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s", url, got.code, got.body)
		}
	}
}

// A panic is an answer, and the end of one request only.

func TestPanic(t *testing.T) {
	s, _ := newTestServer(t, 9)
	s.opts.Status = func() Status { panic("boom") }
	got := ask(t, s.Handler(), "GET", "/apis/usher.internal/v1/status", "")
	if got.code != http.StatusInternalServerError || got.status.Reason != "InternalError" || !strings.Contains(got.status.Message, "boom") {
		t.Errorf("%d %s", got.code, got.body)
	}
}
