package netenv

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func service(namespace, name, ip string, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: ports},
	}
}

var kubernetes = service("default", "kubernetes", "10.96.0.1", corev1.ServicePort{Name: "https", Port: 443, Protocol: "TCP"})

const kubernetesEnv = `KUBERNETES_PORT=tcp://10.96.0.1:443
KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
KUBERNETES_PORT_443_TCP_PORT=443
KUBERNETES_PORT_443_TCP_PROTO=tcp
KUBERNETES_SERVICE_HOST=10.96.0.1
KUBERNETES_SERVICE_PORT=443
KUBERNETES_SERVICE_PORT_HTTPS=443
`

// TestServiceEnv has what kubelet sets (row 120 of the semantics).
func TestServiceEnv(t *testing.T) {
	tests := []struct {
		name      string
		namespace string
		services  []*corev1.Service
		want      string
	}{
		{"none", "finance", nil, ""},
		{"kubernetes in every namespace", "finance", []*corev1.Service{kubernetes}, kubernetesEnv},
		{"and once in its own", "default", []*corev1.Service{kubernetes}, kubernetesEnv},
		{"other namespaces, headless and unallocated ones are left out", "finance", []*corev1.Service{
			service("default", "other", "10.96.0.9", corev1.ServicePort{Port: 1}),
			service("kube-system", "kube-dns", "10.96.0.10", corev1.ServicePort{Port: 53}),
			service("finance", "headless", "None", corev1.ServicePort{Port: 80}),
			service("finance", "external", ""),
			service("finance", "portless", "10.96.0.11"),
		}, ""},
		{"several ports", "finance", []*corev1.Service{
			service("finance", "redis-primary", "10.96.0.11",
				corev1.ServicePort{Name: "client-tls", Port: 6379, Protocol: "TCP"},
				corev1.ServicePort{Name: "gossip", Port: 7946, Protocol: "UDP"}),
		}, `REDIS_PRIMARY_PORT=tcp://10.96.0.11:6379
REDIS_PRIMARY_PORT_6379_TCP=tcp://10.96.0.11:6379
REDIS_PRIMARY_PORT_6379_TCP_ADDR=10.96.0.11
REDIS_PRIMARY_PORT_6379_TCP_PORT=6379
REDIS_PRIMARY_PORT_6379_TCP_PROTO=tcp
REDIS_PRIMARY_PORT_7946_UDP=udp://10.96.0.11:7946
REDIS_PRIMARY_PORT_7946_UDP_ADDR=10.96.0.11
REDIS_PRIMARY_PORT_7946_UDP_PORT=7946
REDIS_PRIMARY_PORT_7946_UDP_PROTO=udp
REDIS_PRIMARY_SERVICE_HOST=10.96.0.11
REDIS_PRIMARY_SERVICE_PORT=6379
REDIS_PRIMARY_SERVICE_PORT_CLIENT_TLS=6379
REDIS_PRIMARY_SERVICE_PORT_GOSSIP=7946
`},
		{"IPv6, no name, no protocol", "finance", []*corev1.Service{
			service("finance", "a", "fd00::5", corev1.ServicePort{Port: 80}),
		}, `A_PORT=tcp://[fd00::5]:80
A_PORT_80_TCP=tcp://[fd00::5]:80
A_PORT_80_TCP_ADDR=fd00::5
A_PORT_80_TCP_PORT=80
A_PORT_80_TCP_PROTO=tcp
A_SERVICE_HOST=fd00::5
A_SERVICE_PORT=80
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ServiceEnv(tt.services, tt.namespace, true)
			if diff := cmp.Diff(strings.Split(strings.TrimSpace(tt.want), "\n"), strings.Split(strings.Join(got, "\n"), "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestServiceEnvOwnKubernetes checks that a namespace's own Service of the
// name takes the place of default's as a whole, in whichever order they come.
func TestServiceEnvOwnKubernetes(t *testing.T) {
	own := service("finance", "kubernetes", "10.96.0.7", corev1.ServicePort{Port: 80})
	want := []string{
		"KUBERNETES_PORT=tcp://10.96.0.7:80", "KUBERNETES_PORT_80_TCP=tcp://10.96.0.7:80", "KUBERNETES_PORT_80_TCP_ADDR=10.96.0.7",
		"KUBERNETES_PORT_80_TCP_PORT=80", "KUBERNETES_PORT_80_TCP_PROTO=tcp", "KUBERNETES_SERVICE_HOST=10.96.0.7", "KUBERNETES_SERVICE_PORT=80",
	}
	for _, services := range [][]*corev1.Service{{own, kubernetes}, {kubernetes, own}} {
		if diff := cmp.Diff(want, ServiceEnv(services, "finance", true)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestServiceEnvWithoutLinks checks that a program is told of the API alone, also
// in the namespace of that and where another Service has its name.
func TestServiceEnvWithoutLinks(t *testing.T) {
	services := []*corev1.Service{
		service("finance", "a", "10.96.0.11", corev1.ServicePort{Port: 80}), kubernetes,
		service("default", "b", "10.96.0.12", corev1.ServicePort{Port: 80}),
		service("finance", "kubernetes", "10.96.0.13", corev1.ServicePort{Port: 80}),
	}
	for _, namespace := range []string{"finance", "default"} {
		got := strings.Join(ServiceEnv(services, namespace, false), "\n") + "\n"
		if diff := cmp.Diff(kubernetesEnv, got); diff != "" {
			t.Errorf("in %s (-want +got):\n%s", namespace, diff)
		}
	}
}
