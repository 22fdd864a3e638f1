package api

import (
	"log/slog"
	"net/http"
)

// maxAuditName bounds the names in the log, in bytes: those of Kubernetes are
// shorter.
const maxAuditName = 253

// audit logs who did what, and what came of it, for everything that is not
// merely read, done or refused. Bodies and tokens are not in it.
func (s *Server) audit(c caller, r *http.Request, a attributes, rec *recorder) {
	if a.reads() || a.asksAboutSelf() {
		return
	}
	level := slog.LevelInfo
	if a.group == Group && a.resource == leaseResource.Resource && a.verb == "update" && rec.code == http.StatusOK {
		level = slog.LevelDebug // a Pod's keeper is alive, every few seconds
	}
	if a.group == Group && a.resource == "connections" && rec.code == http.StatusOK {
		level = slog.LevelDebug // usher exec says what it counts
	}
	if a.name == "" {
		a.name = rec.object
	}
	what := []any{"user", c.name, "verb", a.verb}
	if a.resource == "" {
		what = append(what, "path", clip(a.path))
	} else {
		resource := a.groupResource().String()
		if a.subresource != "" {
			resource += "/" + a.subresource
		}
		what = append(what, "resource", clip(resource), "namespace", clip(a.namespace), "name", clip(a.name))
	}
	if r.URL.Query().Has("dryRun") || rec.dryRun {
		what = append(what, "dryRun", true)
	}
	s.log.Log(r.Context(), level, "audit", append(what, "code", rec.code, "client", r.RemoteAddr)...)
}

func clip(s string) string { return s[:min(len(s), maxAuditName)] }

// noted returns where what is known of a request only after its body has been
// read is kept: for the audit, and warnings for the answer.
func noted(w http.ResponseWriter) *recorder {
	if rec, ok := w.(*recorder); ok {
		return rec
	}
	return new(recorder)
}
