package api

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// auditLog makes s log into a buffer, and returns what reads the lines of the
// audit out of it, without their time, since it was last called.
func auditLog(s *Server) (lines func() []string, all *bytes.Buffer) {
	all = new(bytes.Buffer)
	s.log = slog.New(slog.NewTextHandler(all, &slog.HandlerOptions{Level: slog.LevelDebug}))
	read := 0
	return func() []string {
		var list []string
		for line := range strings.Lines(all.String()[read:]) {
			if strings.Contains(line, "level=INFO") {
				_, line, _ = strings.Cut(line, "msg=")
				list = append(list, strings.TrimSuffix(line, "\n"))
			}
		}
		read = all.Len()
		return list
	}, all
}

// Each write has one line that says who did what to which object and what came
// of it, whether it was done or not; nothing else has one, and no secret is
// in any.
func TestAudit(t *testing.T) {
	s := newRegistryServer(t)
	s.opts.Tokens = map[Role]string{RoleAdmin: "TOPSECRET", RoleView: "GLIMPSE"}
	lines, all := auditLog(s)
	admin, adminHeaders := asUser(s, "TOPSECRET")
	_, viewHeaders := asUser(s, "GLIMPSE")
	_, strangerHeaders := asUser(s, "GUESSED")
	local := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = "@"
		s.Handler().ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerKey{}, "uid:1000")))
	})
	const services = "/api/v1/namespaces/a/services"
	valid := func(name string) string { return `{"metadata":{` + name + `},"spec":{"ports":[{"port":80}]}}` }
	const adminLine, from = `audit user=usher:admin `, ` client=127.0.0.1:5000`
	tests := []struct {
		name               string
		handler            http.Handler
		headers            []string
		method, path, body string
		want               string // a pattern; "": no line
	}{
		{"create", admin, adminHeaders, "POST", services, valid(`"name":"web"`),
			adminLine + `verb=create resource=services namespace=a name=web code=201` + from},
		{"again", admin, adminHeaders, "POST", services, valid(`"name":"web"`),
			adminLine + `verb=create resource=services namespace=a name=web code=409` + from},
		{"with a name of the server's", admin, adminHeaders, "POST", services, valid(`"generateName":"web-"`),
			adminLine + `verb=create resource=services namespace=a name=web-[a-z0-9]{5} code=201` + from},
		{"not understood", admin, adminHeaders, "POST", services + "?fieldValidation=Strict", `{"metadata":{"name":"other"},"spek":{}}`,
			adminLine + `verb=create resource=services namespace=a name="" code=400` + from},
		{"dry run", admin, adminHeaders, "POST", services + "?dryRun=All", valid(`"name":"dry"`),
			adminLine + `verb=create resource=services namespace=a name=dry dryRun=true code=201` + from},
		{"status", admin, adminHeaders, "PATCH", services + "/web/status", `{}`,
			adminLine + `verb=patch resource=services/status namespace=a name=web code=415` + from},
		{"dry deletion", admin, adminHeaders, "DELETE", services + "/web", `{"dryRun":["All"]}`,
			adminLine + `verb=delete resource=services namespace=a name=web dryRun=true code=200` + from},
		{"by the socket", local, nil, "DELETE", services + "/web", "",
			`audit user=uid:1000 verb=delete resource=services namespace=a name=web code=200 client=@`},
		{"of what is not there", admin, adminHeaders, "DELETE", services + "/web", "",
			adminLine + `verb=delete resource=services namespace=a name=web code=404` + from},
		{"of many", admin, adminHeaders, "DELETE", services, "",
			adminLine + `verb=deletecollection resource=services namespace=a name="" code=200` + from},
		{"not permitted", admin, viewHeaders, "PUT", "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices/b", "{}",
			`audit user=usher:view verb=update resource=endpointslices.discovery.k8s.io namespace=a name=b code=403` + from},
		{"by a stranger", admin, strangerHeaders, "DELETE", services + "/web", "",
			`audit user=system:anonymous verb=delete resource=services namespace=a name=web code=401` + from},
		{"to a path", admin, adminHeaders, "POST", "/version", "", adminLine + `verb=post path=/version code=405` + from},
		{"of a long name", admin, adminHeaders, "DELETE", services + "/" + strings.Repeat("x", 1000), "",
			adminLine + `verb=delete resource=services namespace=a name=x{253} code=404` + from},
		{"of a line of its own", admin, adminHeaders, "DELETE", services + "/a%0Amsg=audit", "",
			adminLine + `verb=delete resource=services namespace=a name="a\\nmsg=audit" code=404` + from},
		{"a lease", local, nil, "POST", "/apis/usher.internal/v1/leases", `{"spec":{"ttlSeconds":60}}`,
			`audit user=uid:1000 verb=create resource=leases.usher.internal namespace="" name=[0-9a-f]+ code=201 client=@`},
		{"get", admin, adminHeaders, "GET", services, "", ""},
		{"review", admin, viewHeaders, "POST", selfReviews, "{}", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			headers := append([]string{"Content-Type", mediaJSON}, tt.headers...)
			if tt.method == "PATCH" {
				headers[1] = "text/plain"
			}
			ask(t, tt.handler, tt.method, tt.path, tt.body, headers...)
			got := strings.Join(lines(), "\n")
			if tt.want == "" && got != "" || !regexp.MustCompile("^"+tt.want+"$").MatchString(got) {
				t.Errorf("audit\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
	for _, token := range []string{"TOPSECRET", "GLIMPSE", "GUESSED"} {
		if strings.Contains(all.String(), token) {
			t.Errorf("%s is in the log", token)
		}
	}
}

// That a lease is renewed is no news.
func TestAuditRenewal(t *testing.T) {
	s := newRegistryServer(t)
	lines, all := auditLog(s)
	lease := decode[Lease](t, ask(t, s.Handler(), "POST", "/apis/usher.internal/v1/leases", `{"spec":{"ttlSeconds":60}}`).body)
	lines()
	path := "/apis/usher.internal/v1/leases/" + lease.Name
	if got := ask(t, s.Handler(), "PUT", path, ""); got.code != http.StatusOK {
		t.Fatalf("%d %s", got.code, got.body)
	}
	if diff := cmp.Diff([]string(nil), lines()); diff != "" {
		t.Errorf("of a renewal (-want +got):\n%s", diff)
	}
	if !strings.Contains(all.String(), "verb=update resource=leases.usher.internal") {
		t.Errorf("nothing at debug: %s", all)
	}
	ask(t, s.Handler(), "PUT", path+"0", "")
	if got := lines(); len(got) != 1 {
		t.Errorf("of a renewal that fails: %q", got)
	}
}

// Who writes by the unix socket is the user at its other end.
func TestAuditPeer(t *testing.T) {
	s, _ := newTestServer(t, 9)
	lines, _ := auditLog(s)
	socket, _, stop := start(t, s)
	resp, err := unixClient(t, socket).Post("http://usher/version", mediaJSON, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	want := []string{fmt.Sprintf("audit user=uid:%d verb=post path=/version code=405 client=@", os.Geteuid())}
	if diff := cmp.Diff(want, lines()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Nobody acts as somebody else: who is not heeded would think that it works.
func TestImpersonation(t *testing.T) {
	s, _ := newTestServer(t, 9)
	admin, headers := asUser(s, "secret")
	for name, h := range map[string]http.Handler{"usher:admin": admin, "usher:admin ": s.Handler()} {
		for _, header := range []string{"Impersonate-User", "Impersonate-Group", "Impersonate-Extra-Scopes"} {
			got := ask(t, h, "GET", "/api/v1/services", "", append(headers, header, "jane")...)
			want := `is forbidden: User "` + strings.TrimSpace(name) + `" cannot impersonate resource "users" in API group "" at the cluster scope`
			if got.code != http.StatusForbidden || !strings.Contains(got.status.Message, want) {
				t.Errorf("%s: %d %s, want 403 with %s", header, got.code, got.body, want)
			}
		}
	}
}
