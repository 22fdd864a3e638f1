package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func TestReadinessFlags(t *testing.T) {
	ports := []corev1.ContainerPort{
		{ContainerPort: 53, Protocol: corev1.ProtocolUDP},
		{ContainerPort: 8080, Protocol: corev1.ProtocolTCP}, {Name: "grpc", ContainerPort: 9090, Protocol: corev1.ProtocolTCP},
	}
	tests := map[string]struct {
		flags readinessFlags
		want  string // the probe; "" for none
		err   string
	}{
		"none":          {},
		"a path":        {flags: readinessFlags{http: "/healthz?full=1"}, want: `{httpGet: {path: "/healthz?full=1", port: 8080, scheme: HTTP}}`},
		"a port":        {flags: readinessFlags{http: ":8081/"}, want: "{httpGet: {path: /, port: 8081, scheme: HTTP}}"},
		"no path":       {flags: readinessFlags{http: ":8081"}, want: "{httpGet: {path: /, port: 8081, scheme: HTTP}}"},
		"a named port":  {flags: readinessFlags{http: "https://:grpc/x/y"}, want: "{httpGet: {path: /x/y, port: grpc, scheme: HTTPS}}"},
		"a host":        {flags: readinessFlags{http: "http://[::1]:80/a:b"}, want: `{httpGet: {host: "::1", path: "/a:b", port: 80, scheme: HTTP}}`},
		"no port":       {flags: readinessFlags{http: "http://localhost/"}, err: `invalid --readiness-http "http://localhost/": "localhost" has no port`},
		"no slash":      {flags: readinessFlags{http: "healthz"}, err: `invalid --readiness-http "healthz": want [http[s]://][HOST:PORT]/PATH`},
		"tcp":           {flags: readinessFlags{tcp: "80"}, want: "{tcpSocket: {port: 80}}"},
		"tcp by name":   {flags: readinessFlags{tcp: "grpc"}, want: "{tcpSocket: {port: grpc}}"},
		"grpc":          {flags: readinessFlags{grpc: "80/my.Service"}, want: "{grpc: {port: 80, service: my.Service}}"},
		"grpc by name":  {flags: readinessFlags{grpc: "grpc"}, want: `{grpc: {port: 9090, service: ""}}`},
		"grpc, no name": {flags: readinessFlags{grpc: "http"}, err: `invalid --readiness-grpc "http": no port has the name "http"`},
		"a command":     {flags: readinessFlags{exec: "test -e x"}, want: "{exec: {command: [/bin/sh, -c, test -e x]}}"},
		"the rest":      {flags: readinessFlags{tcp: "80", probe: "{periodSeconds: 2, failureThreshold: 1}"}, want: "{tcpSocket: {port: 80}, periodSeconds: 2, failureThreshold: 1}"},
		"everything":    {flags: readinessFlags{probe: `{"exec": {"command": ["a"]}}`}, want: "{exec: {command: [a]}}"},
		"a slip":        {flags: readinessFlags{probe: "{period: 2}"}, err: `invalid --readiness-probe: error unmarshaling JSON: while decoding JSON: json: unknown field "period"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tt.flags.read(ports)
			if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Fatalf("error %v, want %s", err, tt.err)
			}
			var want *corev1.Probe
			if err := yaml.UnmarshalStrict([]byte(tt.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
