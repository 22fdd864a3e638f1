package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestParsePort(t *testing.T) {
	port := func(name string, n int32, protocol corev1.Protocol) corev1.ContainerPort {
		return corev1.ContainerPort{Name: name, ContainerPort: n, Protocol: protocol}
	}
	tests := map[string]struct {
		want    corev1.ContainerPort
		wantErr string
	}{
		"8080":                {want: port("", 8080, "TCP")},
		"1":                   {want: port("", 1, "TCP")},
		"65535":               {want: port("", 65535, "TCP")},
		"http=8080":           {want: port("http", 8080, "TCP")},
		"53/udp":              {want: port("", 53, "UDP")},
		"dns=53/UDP":          {want: port("dns", 53, "UDP")},
		"dns-tcp=53/tcp":      {want: port("dns-tcp", 53, "TCP")},
		"":                    {wantErr: `invalid port "": "" is not a port number; the form is [name=]PORT[/tcp|/udp]`},
		"http":                {wantErr: `"http" is not a port number`},
		"http=":               {wantErr: `"" is not a port number`},
		"=80":                 {wantErr: `name ""`},
		"0":                   {wantErr: "must be between 1 and 65535, inclusive"},
		"65536":               {wantErr: "must be between 1 and 65535, inclusive"},
		"-1":                  {wantErr: "is not a port number"},
		"+80":                 {wantErr: "is not a port number"},
		"80 ":                 {wantErr: "is not a port number"},
		"99999999999":         {wantErr: "is not a port number"},
		"80/":                 {wantErr: `unsupported protocol "": supported values: "tcp", "udp"`},
		"80/sctp":             {wantErr: `unsupported protocol "sctp"`},
		"80/tcp/udp":          {wantErr: `unsupported protocol "tcp/udp"`},
		"a=b=80":              {wantErr: `"b=80" is not a port number`},
		"HTTP=80":             {wantErr: "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"},
		"8080=80":             {wantErr: "must contain at least one letter"},
		"a--b=80":             {wantErr: "must not contain consecutive hyphens"},
		"sixteen-letters-=80": {wantErr: "must be no more than 15 characters"},
	}
	for in, tt := range tests {
		t.Run(in, func(t *testing.T) {
			got, err := ParsePort(in)
			if text := fmt.Sprint(err); (err != nil) != (tt.wantErr != "") || !strings.Contains(text, tt.wantErr) && err != nil {
				t.Fatalf("error %v, want one with %q", err, tt.wantErr)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A port that is accepted is one that Kubernetes would accept, and is the same
// when written out and read again.
func FuzzParsePort(f *testing.F) {
	for _, s := range []string{"8080", "http=80/tcp", "dns=53/udp", "=1", "a=/", "65536", "x=0/UDP"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		port, err := ParsePort(s)
		if err != nil {
			if port != (corev1.ContainerPort{}) {
				t.Errorf("%+v next to error %v", port, err)
			}
			return
		}
		if port.ContainerPort < 1 || port.ContainerPort > 65535 {
			t.Errorf("port %d", port.ContainerPort)
		}
		again := fmt.Sprintf("%d/%s", port.ContainerPort, port.Protocol)
		if port.Name != "" {
			again = port.Name + "=" + again
		}
		if got, err := ParsePort(again); err != nil || got != port {
			t.Errorf("%q: %+v, %v, want %+v", again, got, err, port)
		}
	})
}
