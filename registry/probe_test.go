package registry

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// podWith returns a Pod with a container that has more fields, as YAML.
func podWith(t *testing.T, kind, fields string) *corev1.Pod {
	t.Helper()
	pod := Pods.New().(*corev1.Pod)
	pod.Name, pod.Namespace = "p", "default"
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	list := &pod.Spec.Containers
	if kind == "init" {
		list = &pod.Spec.InitContainers
		*list = []corev1.Container{{Name: "d", Image: "i"}}
	}
	if err := yaml.UnmarshalStrict([]byte(fields), &(*list)[0]); err != nil {
		t.Fatal(err)
	}
	SetDefaults(pod)
	return pod
}

func TestProbeDefaults(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"http": {"{httpGet: {port: 80}}",
			"{httpGet: {port: 80, path: /, scheme: HTTP}, timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3}"},
		"grpc": {"{grpc: {port: 80}, timeoutSeconds: 2, periodSeconds: 3, successThreshold: 4, failureThreshold: 5}",
			`{grpc: {port: 80, service: ""}, timeoutSeconds: 2, periodSeconds: 3, successThreshold: 4, failureThreshold: 5}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := podWith(t, "", "readinessProbe: "+tt.in).Spec.Containers[0].ReadinessProbe
			want := new(corev1.Probe)
			if err := yaml.UnmarshalStrict([]byte(tt.want), want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateProbe(t *testing.T) {
	const ready = "spec.containers[0].readinessProbe"
	tests := map[string]struct {
		kind, in string
		want     []string
	}{
		"each kind": {in: `{readinessProbe: {exec: {command: [a]}}, livenessProbe: {tcpSocket: {port: http}}, startupProbe: {grpc: {port: 1, mode: TLS}}}`},
		"http":      {in: `readinessProbe: {httpGet: {port: http, path: /x, scheme: HTTPS, httpHeaders: [{name: X-A, value: b}]}}`},
		"no handler": {in: "readinessProbe: {periodSeconds: 1}",
			want: []string{ready + ": Required value: must specify a handler type"}},
		"two handlers": {in: "readinessProbe: {httpGet: {port: 0}, tcpSocket: {port: 0}}", want: []string{
			ready + ".httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
			ready + ".tcpSocket: Forbidden: may not specify more than 1 handler type",
		}},
		"no command": {in: "readinessProbe: {exec: {}}", want: []string{ready + ".exec.command: Required value"}},
		"a port's name": {in: "readinessProbe: {tcpSocket: {port: a_b}}", want: []string{
			ready + `.tcpSocket.port: Invalid value: "a_b": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)`,
		}},
		"a scheme and a header": {in: `readinessProbe: {httpGet: {port: 1, scheme: http, httpHeaders: [{name: "a b"}]}}`, want: []string{
			ready + `.httpGet.scheme: Unsupported value: "http": supported values: "HTTP", "HTTPS"`,
			ready + `.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')`,
		}},
		"h2c": {in: `readinessProbe: {httpGet: {port: 1, scheme: HTTPS, protocol: HTTP2}}`, want: []string{
			ready + `.httpGet.protocol: Invalid value: "HTTP2": is only supported with HTTP (H2C)`,
		}},
		"grpc": {in: "readinessProbe: {grpc: {port: 0, mode: tls}}", want: []string{
			ready + ".grpc.port: Invalid value: 0: must be between 1 and 65535, inclusive",
			ready + `.grpc.mode: Unsupported value: "tls": supported values: "Plaintext", "TLS"`,
		}},
		"numbers": {in: `readinessProbe: {exec: {command: [a]}, initialDelaySeconds: -1, timeoutSeconds: -1, periodSeconds: -1, successThreshold: -1, failureThreshold: -1, terminationGracePeriodSeconds: 1}`, want: []string{
			ready + ".initialDelaySeconds: Invalid value: -1: must be greater than or equal to 0",
			ready + ".timeoutSeconds: Invalid value: -1: must be greater than or equal to 0",
			ready + ".periodSeconds: Invalid value: -1: must be greater than or equal to 0",
			ready + ".successThreshold: Invalid value: -1: must be greater than or equal to 0",
			ready + ".failureThreshold: Invalid value: -1: must be greater than or equal to 0",
			ready + ".terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes",
		}},
		"once is enough": {in: `{livenessProbe: {exec: {command: [a]}, successThreshold: 2, terminationGracePeriodSeconds: 0}, startupProbe: {exec: {command: [a]}, successThreshold: 2}}`, want: []string{
			"spec.containers[0].livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
			"spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
			"spec.containers[0].startupProbe.successThreshold: Invalid value: 2: must be 1",
		}},
		"an init container": {kind: "init", in: "readinessProbe: {tcpSocket: {port: 0}}", want: []string{
			"spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
		}},
		"a sidecar": {kind: "init", in: "{restartPolicy: Always, readinessProbe: {tcpSocket: {port: 0}}}", want: []string{
			"spec.initContainers[0].readinessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, err := range Validate(podWith(t, tt.kind, tt.in)) {
				got = append(got, err.Error())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestProbePort(t *testing.T) {
	c := &corev1.Container{Ports: []corev1.ContainerPort{{Name: "a", ContainerPort: 1}, {Name: "b", ContainerPort: 2}}}
	for port, want := range map[intstr.IntOrString]int32{
		intstr.FromInt32(7): 7, intstr.FromString("b"): 2, intstr.FromString("c"): 0,
	} {
		if got := ProbePort(port, c); got != want {
			t.Errorf("ProbePort(%v) = %d, want %d", port.String(), got, want)
		}
	}
}
