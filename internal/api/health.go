package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// A Check is one of those that /readyz is made of.
type Check struct {
	Name  string
	Fails func() error // says what is missing, or nil
}

// ping is always passed: who answers is alive.
var ping = Check{"ping", func() error { return nil }}

// readyChecks are those of /readyz.
func (s *Server) readyChecks() []Check {
	if s.opts.Ready != nil {
		return append([]Check{ping}, s.opts.Ready...)
	}
	return []Check{ping, {"informer-sync", func() error {
		select {
		case <-s.opts.Store.Synced():
			return nil
		default:
			return errUnread()
		}
	}}}
}

// ready says what is missing for this node to serve, or nil.
func (s *Server) ready() error {
	for _, c := range s.readyChecks() {
		if err := c.Fails(); err != nil {
			return err
		}
	}
	return nil
}

// probe returns what serves /livez, /healthz or /readyz, or one check below
// that, or nil when there is none of that name. It answers as Kubernetes' API
// server does, but that it says why a check fails: nothing of it is secret.
func (s *Server) probe(segments []string) func(http.ResponseWriter, *http.Request) error {
	checks := []Check{ping}
	if segments[0] == "readyz" {
		checks = s.readyChecks()
	}
	switch len(segments) {
	case 1:
		return func(w http.ResponseWriter, r *http.Request) error {
			return answerChecks(w, r.URL.Query(), segments[0], checks)
		}
	case 2:
		i := slices.IndexFunc(checks, func(c Check) bool { return c.Name == segments[1] })
		if i >= 0 {
			return func(w http.ResponseWriter, r *http.Request) error { return answerCheck(w, checks[i]) }
		}
	}
	return nil
}

// answerCheck answers with one check.
func answerCheck(w http.ResponseWriter, c Check) error {
	if err := c.Fails(); err != nil {
		return plain(w, http.StatusInternalServerError, fmt.Sprintf("internal server error: %v\n", err))
	}
	return plain(w, http.StatusOK, "ok")
}

// answerChecks answers with all checks but those that are to be left out.
func answerChecks(w http.ResponseWriter, query url.Values, name string, checks []Check) error {
	var text strings.Builder
	failed, excluded := false, slices.Clone(query["exclude"])
	for _, c := range checks {
		if i := slices.Index(excluded, c.Name); i >= 0 {
			excluded = slices.Delete(excluded, i, i+1)
			fmt.Fprintf(&text, "[+]%s excluded: ok\n", c.Name)
		} else if err := c.Fails(); err != nil {
			failed = true
			fmt.Fprintf(&text, "[-]%s failed: %v\n", c.Name, err)
		} else {
			fmt.Fprintf(&text, "[+]%s ok\n", c.Name)
		}
	}
	if len(excluded) > 0 {
		slices.Sort(excluded)
		fmt.Fprintf(&text, "warn: some health checks cannot be excluded: no matches for %s\n", quoted(excluded))
	}
	switch _, verbose := query["verbose"]; {
	case failed:
		return plain(w, http.StatusInternalServerError, text.String()+name+" check failed\n")
	case verbose:
		return plain(w, http.StatusOK, text.String()+name+" check passed\n")
	}
	return plain(w, http.StatusOK, "ok")
}

func quoted(words []string) string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = strconv.Quote(w)
	}
	return strings.Join(list, ", ")
}

// plain answers with text, for people and for programs that look at the status
// code alone.
func plain(w http.ResponseWriter, code int, text string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	io.WriteString(w, text)
	return nil
}

// healthInterval is how often those who watch the health by gRPC are told of
// changes. Those who ask get an answer of the moment.
const healthInterval = time.Second

// healthServer is grpc.health.v1 with the answer of /readyz.
type healthServer struct {
	*health.Server
	ready func() error
}

func newHealthServer(ready func() error) *healthServer {
	h := &healthServer{health.NewServer(), ready}
	h.refresh()
	return h
}

// Check implements grpc.health.v1.
func (h *healthServer) Check(ctx context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	h.refresh()
	return h.Server.Check(ctx, in)
}

func (h *healthServer) refresh() {
	status := healthpb.HealthCheckResponse_SERVING
	if h.ready() != nil {
		status = healthpb.HealthCheckResponse_NOT_SERVING
	}
	h.SetServingStatus("", status)
}

// follow keeps the status up to date until ctx is done, and says that nothing
// is served then.
func (h *healthServer) follow(ctx context.Context) {
	defer h.Shutdown()
	tick := time.NewTicker(healthInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.refresh()
		case <-ctx.Done():
			return
		}
	}
}
