package agent

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
)

// patient is a timeout that no probe needs.
const patient = time.Minute

func endpointOf(addr net.Addr) endpoint {
	ap := netip.MustParseAddrPort(addr.String())
	return endpoint{host: ap.Addr().String(), port: int(ap.Port())}
}

func TestAskHTTP(t *testing.T) {
	long := strings.Repeat("x", 2*maxProbeOutput)
	mux := http.NewServeMux()
	mux.HandleFunc("/code/", func(w http.ResponseWriter, r *http.Request) {
		code := map[string]int{"200": 200, "204": 204, "304": 304, "400": 400, "404": 404, "503": 503}[strings.TrimPrefix(r.URL.Path, "/code/")]
		w.WriteHeader(code)
	})
	mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, long) })
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/code/503", http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "http://192.0.2.1/")
		w.WriteHeader(http.StatusFound)
		io.WriteString(w, long)
	})
	mux.HandleFunc("/header", func(w http.ResponseWriter, r *http.Request) {
		got := []string{r.Host, r.UserAgent(), r.Header.Get("Accept"), r.Header.Get("X-A"), r.URL.RawQuery}
		if diff := cmp.Diff([]string{"web.example", "me", "*/*", "b", "q=1"}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	plain := httptest.NewServer(mux)
	defer plain.Close()
	secure := httptest.NewUnstartedServer(mux)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	at, atSecure := endpointOf(plain.Listener.Addr()), endpointOf(secure.Listener.Addr())
	tests := map[string]struct {
		get     corev1.HTTPGetAction
		at      endpoint
		warning string
		err     string // "%" is the address
	}{
		"200":          {get: corev1.HTTPGetAction{Path: "/code/200"}},
		"204":          {get: corev1.HTTPGetAction{Path: "/code/204"}},
		"304":          {get: corev1.HTTPGetAction{Path: "/code/304"}, warning: "Probe terminated redirects, Response body: "},
		"400":          {get: corev1.HTTPGetAction{Path: "/code/400"}, err: "HTTP probe failed with statuscode: 400"},
		"503":          {get: corev1.HTTPGetAction{Path: "/code/503"}, err: "HTTP probe failed with statuscode: 503"},
		"a long body":  {get: corev1.HTTPGetAction{Path: "/long"}},
		"a redirect":   {get: corev1.HTTPGetAction{Path: "/here"}, err: "HTTP probe failed with statuscode: 503"},
		"a loop":       {get: corev1.HTTPGetAction{Path: "/loop"}, err: `Get "/loop": stopped after 10 redirects`},
		"another host": {get: corev1.HTTPGetAction{Path: "/away"}, warning: "Probe terminated redirects, Response body: " + long[:maxProbeOutput]},
		"headers": {get: corev1.HTTPGetAction{Path: "/header?q=1", HTTPHeaders: []corev1.HTTPHeader{
			{Name: "Host", Value: "web.example"}, {Name: "User-Agent", Value: "me"}, {Name: "X-A", Value: "b"},
		}}},
		"https":           {get: corev1.HTTPGetAction{Path: "/code/200", Scheme: corev1.URISchemeHTTPS}, at: atSecure},
		"http over https": {get: corev1.HTTPGetAction{Path: "/code/200"}, at: atSecure, err: "HTTP probe failed with statuscode: 400"},
		"nobody":          {get: corev1.HTTPGetAction{Path: "/"}, at: nobody(t), err: `Get "http://%/": dial tcp %: connect: connection refused`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.at == (endpoint{}) {
				tt.at = at
			}
			warning, err := askHTTP(&tt.get, tt.at)(t.Context(), patient)
			checkAsked(t, strings.ReplaceAll(tt.err, "%", tt.at.String()), err)
			if warning != tt.warning {
				t.Errorf("warning %q, want %q", warning, tt.warning)
			}
		})
	}
}

func checkAsked(t *testing.T, want string, err error) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}

// nobody returns an address at which nobody listens.
func nobody(t *testing.T) endpoint {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	return endpointOf(ln.Addr())
}

// With HTTP2 the request is HTTP/2 without TLS.
func TestAskH2C(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			w.WriteHeader(http.StatusHTTPVersionNotSupported)
		}
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	at := endpointOf(server.Listener.Addr())
	get := &corev1.HTTPGetAction{Path: "/"}
	_, err := askHTTP(get, at)(t.Context(), patient)
	checkAsked(t, "HTTP probe failed with statuscode: 505", err)
	get.Protocol = new(corev1.HTTPProtocolHTTP2)
	_, err = askHTTP(get, at)(t.Context(), patient)
	checkAsked(t, "", err)
}

func TestAskTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := endpointOf(ln.Addr())
	_, err = askTCP(at)(t.Context(), patient)
	checkAsked(t, "", err)
	ln.Close()
	_, err = askTCP(at)(t.Context(), patient)
	checkAsked(t, "dial tcp "+at.String()+": connect: connection refused", err)
}

func TestAskGRPC(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	checks := health.NewServer()
	checks.SetServingStatus("bad", healthpb.HealthCheckResponse_NOT_SERVING)
	server, bare := grpc.NewServer(), grpc.NewServer()
	healthpb.RegisterHealthServer(server, checks)
	bareLn, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 2)
	go func() { served <- server.Serve(ln) }()
	go func() { served <- bare.Serve(bareLn) }()
	defer func() {
		server.Stop()
		bare.Stop()
		<-served
		<-served
	}()
	at, none := endpointOf(ln.Addr()), nobody(t)
	tests := map[string]struct {
		service string
		at      endpoint
		err     string // its beginning
	}{
		"the server":   {"", at, ""},
		"a service":    {"bad", at, `service unhealthy (responded with "NOT_SERVING")`},
		"an unknown":   {"none", at, "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"},
		"not health":   {"", endpointOf(bareLn.Addr()), "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service grpc.health.v1.Health"},
		"nobody there": {"", none, `error: failed to connect service at "` + none.String() + `": `},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patient)
			defer cancel()
			_, err := askGRPC(&corev1.GRPCAction{Service: &tt.service}, tt.at)(ctx, patient)
			if (err == nil) != (tt.err == "") || err != nil && !strings.HasPrefix(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

// A server that accepts and says nothing costs the timeout.
func TestAskSilent(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // the kernel accepts
	at := endpointOf(ln.Addr())
	const timeout = 50 * time.Millisecond
	for name, tt := range map[string]struct {
		ask func(context.Context, time.Duration) (string, error)
		err string
	}{
		"http": {askHTTP(&corev1.HTTPGetAction{Path: "/"}, at), `Get "http://` + at.String() + `/": context deadline exceeded`},
		"grpc": {askGRPC(&corev1.GRPCAction{}, at), `timeout: failed to connect service "` + at.String() + `" within 50ms: context deadline exceeded`},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			_, err := tt.ask(ctx, timeout)
			if err == nil || !strings.HasPrefix(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

func TestRunProbe(t *testing.T) {
	r := &replica{group: new(group), environ: []string{"PATH=/usr/bin:/bin", "PORT=8080"}}
	tests := map[string]struct {
		script string
		err    string
	}{
		"success":     {"echo hello", ""},
		"failure":     {"echo no >&2; exit 3", "no\n"},
		"silent":      {"exit 3", "exit code 3"},
		"environment": {"echo $PORT; exit 1", "8080\n"},
		"long":        {"yes | head -c 50000; exit 1", strings.Repeat("y\n", maxProbeOutput/2)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			checkAsked(t, tt.err, r.runProbe(t.Context(), []string{"/bin/sh", "-c", tt.script}, patient))
		})
	}
	if err := r.runProbe(t.Context(), []string{"/no/such/program"}, patient); err == nil {
		t.Error("a program that is not there has succeeded")
	}
	// What it has started ends with it.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := r.runProbe(ctx, []string{"/bin/sh", "-c", "sleep 1000 & wait"}, time.Second)
	checkAsked(t, `command timed out: "/bin/sh -c sleep 1000 & wait" timed out after 1s`, err)
}
