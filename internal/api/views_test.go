package api

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"usher/internal/sockets"
)

func TestPrivateViewTarget(t *testing.T) {
	want := PrivateView{
		NetNS: 4026531840, PID: 17, Command: "curl 'http://web/?a=1&b=2' 100%",
		CIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112")},
	}
	target, err := url.Parse(want.Target())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseView(&http.Request{URL: target}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

// TestLendRefused checks what is no offer of sockets.
func TestLendRefused(t *testing.T) {
	good := PrivateView{NetNS: 1, PID: 2, CIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}}.Target()
	path, _, _ := strings.Cut(good, "?")
	unix := context.WithValue(t.Context(), http.LocalAddrContextKey, net.Addr(&net.UnixAddr{Name: "s", Net: "unix"}))
	tcp := context.WithValue(t.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{}))
	tests := map[string]struct {
		ctx              context.Context
		target, protocol string
		want             string
	}{
		"over TCP":     {tcp, good, sockets.Protocol, "over the unix socket alone"},
		"no upgrade":   {unix, good, "", "want an upgrade"},
		"other":        {unix, good, "websocket", "want an upgrade"},
		"no netns":     {unix, path, sockets.Protocol, "netns"},
		"no pid":       {unix, path + "?netns=1", sockets.Protocol, "pid"},
		"no range":     {unix, path + "?netns=1&pid=1", sockets.Protocol, "cidr"},
		"not a range":  {unix, path + "?netns=1&pid=1&cidr=10.96.0.0", sockets.Protocol, "cidr"},
		"not a socket": {unix, good, sockets.Protocol, "take over a connection"}, // of a test
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			called := false
			s := New(Options{ShowIn: func(context.Context, PrivateView, *net.UnixConn) error {
				called = true
				return nil
			}})
			req := httptest.NewRequestWithContext(tt.ctx, http.MethodPost, tt.target, nil)
			req.Header.Set("Upgrade", tt.protocol)
			rec := httptest.NewRecorder()
			s.Handler().ServeHTTP(rec, req)
			if called || rec.Code < 400 || !strings.Contains(rec.Body.String(), tt.want) {
				t.Errorf("%d %s, called: %v; want %q", rec.Code, rec.Body, called, tt.want)
			}
		})
	}
}
