package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// probe answers /livez, /healthz and /readyz: in words, for people and for
// programs that look at the status code alone.
func probe(w http.ResponseWriter, r *http.Request, name string, missing error) error {
	code, text := http.StatusOK, "ok"
	_, verbose := r.URL.Query()["verbose"]
	switch {
	case missing != nil:
		code, text = http.StatusServiceUnavailable, fmt.Sprintf("[-]%v\n%s check failed\n", missing, name)
	case verbose:
		text = fmt.Sprintf("[+]ok\n%s check passed\n", name)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	fmt.Fprint(w, text)
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
