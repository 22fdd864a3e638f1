package api

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
)

const (
	accessReviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
	rulesReviews  = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
	selfReviews   = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
)

// asUser returns the API on the control port, and the headers of who has a
// token.
func asUser(s *Server, token string) (http.Handler, []string) {
	g := newGuard([]string{"localhost"}, s.opts.Tokens, true)
	return fromPeer("127.0.0.1:5000", false, guarded(s, g)), []string{"Host", "localhost", "Authorization", "Bearer " + token}
}

func TestAccessReview(t *testing.T) {
	s, _ := newTestServer(t, 9)
	resource := func(verb, group, resource, sub string) string {
		return `{"spec":{"resourceAttributes":{"namespace":"a","verb":"` + verb + `","group":"` + group + `","resource":"` + resource + `","subresource":"` + sub + `"}}}`
	}
	tests := map[string]struct {
		spec        string
		admin, view bool
	}{
		"get":     {resource("get", "", "services", ""), true, true},
		"watch":   {resource("watch", "discovery.k8s.io", "endpointslices", ""), true, true},
		"log":     {resource("get", "", "pods", "log"), true, true},
		"create":  {resource("create", "", "services", ""), true, false},
		"status":  {resource("patch", "", "services", "status"), true, false},
		"all":     {resource("*", "*", "*", ""), true, false},
		"review":  {resource("create", "authorization.k8s.io", "selfsubjectaccessreviews", ""), true, true},
		"made up": {resource("frobnicate", "", "services", ""), true, false},
		"path":    {`{"spec":{"nonResourceAttributes":{"path":"/metrics","verb":"get"}}}`, true, true},
		"to path": {`{"spec":{"nonResourceAttributes":{"path":"/metrics","verb":"post"}}}`, true, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for token, want := range map[string]bool{"secret": tt.admin, "glimpse": tt.view} {
				h, headers := asUser(s, token)
				got := ask(t, h, "POST", accessReviews, tt.spec, headers...)
				if got.code != http.StatusCreated {
					t.Fatalf("%d %s", got.code, got.body)
				}
				v := decode[authorizationv1.SelfSubjectAccessReview](t, got.body)
				if v.Status.Allowed != want || v.Kind != "SelfSubjectAccessReview" || v.APIVersion != "authorization.k8s.io/v1" {
					t.Errorf("%s gets %s, want allowed %v", token, got.body, want)
				}
				if want == (v.Status.Reason != "") {
					t.Errorf("the reason for %v is %q", want, v.Status.Reason)
				}
			}
		})
	}
}

func TestReviews(t *testing.T) {
	s, _ := newTestServer(t, 9)
	h, headers := asUser(s, "glimpse")
	who := decode[authenticationv1.SelfSubjectReview](t, ask(t, h, "POST", selfReviews, `{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1"}`, headers...).body)
	want := authenticationv1.UserInfo{Username: "usher:view", Groups: []string{"usher:view", "system:authenticated"}}
	if diff := cmp.Diff(want, who.Status.UserInfo); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for token, verbs := range map[string][]string{"secret": {"*"}, "glimpse": {"get", "list", "watch"}} {
		h, headers := asUser(s, token)
		v := decode[authorizationv1.SelfSubjectRulesReview](t, ask(t, h, "POST", rulesReviews, `{"spec":{"namespace":"a"}}`, headers...).body)
		if !slices.Equal(v.Status.ResourceRules[0].Verbs, verbs) || v.Status.Incomplete || len(v.Status.NonResourceRules) != 1 {
			t.Errorf("the rules of %s are %+v", token, v.Status)
		}
	}
}

func TestReviewsRefuse(t *testing.T) {
	s, _ := newTestServer(t, 9)
	h, headers := asUser(s, "glimpse")
	tests := []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"POST", accessReviews, `{}`, 422, "exactly one of nonResourceAttributes or resourceAttributes must be specified"},
		{"POST", accessReviews, `{"spec":{"resourceAttributes":{},"nonResourceAttributes":{}}}`, 422, "cannot be specified in combination with resourceAttributes"},
		{"POST", accessReviews, `{"spec":{"resourceAttribute":{}}}`, 422, "exactly one of"},
		{"POST", accessReviews, `{"spec":`, 400, "SelfSubjectAccessReview"},
		{"POST", rulesReviews, `{}`, 400, "no namespace on request"},
		{"GET", selfReviews, "", 405, ""},
		{"POST", selfReviews + "/a", "{}", 403, "cannot create"},
		{"POST", "/apis/authentication.k8s.io/v2/selfsubjectreviews", "{}", 404, ""},
	}
	for _, tt := range tests {
		got := ask(t, h, tt.method, tt.path, tt.body, headers...)
		if got.code != tt.code || !strings.Contains(got.status.Message, tt.want) {
			t.Errorf("%s %s %s: %d %s, want %d with %q", tt.method, tt.path, tt.body, got.code, got.body, tt.code, tt.want)
		}
	}
}
