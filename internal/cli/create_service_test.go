package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestCreateService(t *testing.T) {
	f := newFake(t, "")
	runSteps(t, f, []step{
		{"create service clusterip a --tcp=80:8080 --tcp=90:http,100", result{0, "service/a created (10.96.1.1)\n", ""}},
		{"create service clusterip a --tcp=80", result{1, "", "error: failed to create ClusterIP service: services \"a\" already exists\n"}},
		{"create svc clusterip b --clusterip=None", result{0, "service/b created\n", ""}},
		{"create service nodeport c --tcp=80 --node-port=30080", result{0, "service/c created (10.96.1.1)\n", ""}},
		{"create service loadbalancer d --tcp=80 -o name", result{0, "service/d\n", ""}},
		{"create service externalname e --external-name=example.org", result{0, "service/e created (10.96.1.1)\n", ""}}, // of the fake
		{"create service clusterip f --tcp=80 --dry-run=server", result{0, "service/f created (server dry run)\n", ""}},
		{"create namespace g", result{0, "namespace/g created\n", ""}},
		{"create ns g", result{1, "", "Error from server (AlreadyExists): namespaces \"g\" already exists\n"}},
	})
	port := func(name string, port int32, target intstr.IntOrString, node int32) corev1.ServicePort {
		return corev1.ServicePort{Name: name, Protocol: corev1.ProtocolTCP, Port: port, TargetPort: target, NodePort: node}
	}
	wanted := map[string]corev1.ServiceSpec{
		"a": {Type: corev1.ServiceTypeClusterIP, Ports: []corev1.ServicePort{
			port("80-8080", 80, intstr.FromInt32(8080), 0), port("90-http", 90, intstr.FromString("http"), 0), port("100", 100, intstr.FromInt32(100), 0)}},
		"b": {Type: corev1.ServiceTypeClusterIP, ClusterIP: "None"},
		"c": {Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{port("80", 80, intstr.FromInt32(80), 30080)}},
		"d": {Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{port("80", 80, intstr.FromInt32(80), 0)}},
		"e": {Type: corev1.ServiceTypeExternalName, ExternalName: "example.org"},
	}
	for name, want := range wanted {
		svc := f.Snapshot().Service("finance", name)
		if svc == nil {
			t.Errorf("there is no %s", name)
			continue
		}
		want.Selector = map[string]string{"app": name}
		got := corev1.ServiceSpec{Type: svc.Spec.Type, Ports: svc.Spec.Ports, Selector: svc.Spec.Selector, ExternalName: svc.Spec.ExternalName}
		if want.ClusterIP != "" {
			got.ClusterIP = svc.Spec.ClusterIP
		}
		if diff := cmp.Diff(want, got); diff != "" || svc.Labels["app"] != name {
			t.Errorf("%s has the labels %v (-want +got):\n%s", name, svc.Labels, diff)
		}
	}
	if f.Snapshot().Service("finance", "f") != nil {
		t.Error("a dry run left something")
	}
}

// What is made for a file is in no namespace unless that was said.
func TestCreateServiceForFile(t *testing.T) {
	f := newFake(t, "")
	for flag, want := range map[string]string{"": "", "-n=finance": "finance"} {
		args := strings.Fields("create service clusterip a --tcp=80 --dry-run=client -o jsonpath={.metadata.namespace} " + flag)
		if got := f.usher(t, "", args...); got.code != 0 || got.stdout != want {
			t.Errorf("%q: %+v", flag, got)
		}
	}
	if len(f.requests) > 0 {
		t.Errorf("requests %q", f.requests)
	}
}

func TestExpose(t *testing.T) {
	f := newFake(t, finance)
	runSteps(t, f, []step{
		{"expose pod p1 --name=x1", result{0, "service/x1 exposed (10.96.1.1)\n", ""}},
		{"expose svc payment-service --name=x2", result{0, "service/x2 exposed (10.96.1.1)\n", ""}},
		{"expose svc payment-service --name=x3 --port=53 --target-port=dns -l a=b --selector=c=d --session-affinity=ClientIP", result{0, "service/x3 exposed (10.96.1.1)\n", ""}},
		{"expose pod p2 --name=x4 --port=80,90 --protocol=udp", result{0, "service/x4 exposed (10.96.1.1)\n", ""}},
		{"expose pod p2 --cluster-ip=None", result{0, "service/p2 exposed\n", ""}},
		{"expose pod p2", result{1, "", "error: couldn't find port via --port flag or introspection\n"}},
		{"expose svc empty --name=x5", result{1, "", "error: couldn't retrieve selectors via --selector flag or introspection: the service has no pod selector set\n"}},
		{"expose ns finance", result{1, "", "error: cannot expose a Namespace\n"}},
		{"expose pod none", result{4, "", "Error from server (NotFound): pods \"none\" not found\n"}},
		{"expose pod p1 --name=x1", result{1, "", "Error from server (AlreadyExists): services \"x1\" already exists\n"}},
		{"expose pod p1 --port=x", result{2, "", "error: strconv.ParseInt: parsing \"x\": invalid syntax\nSee 'usher expose --help' for usage.\n"}},
	})
	type service struct {
		Labels, Selector map[string]string
		Ports            []corev1.ServicePort
		Affinity         corev1.ServiceAffinity
	}
	payment := map[string]string{"app": "payment"}
	udp := func(name string, port int32, target intstr.IntOrString) corev1.ServicePort {
		return corev1.ServicePort{Name: name, Protocol: corev1.ProtocolUDP, Port: port, TargetPort: target}
	}
	wanted := map[string]service{
		"x1": {payment, payment, []corev1.ServicePort{udp("", 5353, intstr.FromInt32(5353))}, "None"},
		"x2": {map[string]string{"app": "payment", "tier": "back"}, payment, []corev1.ServicePort{
			{Name: "port-1", Protocol: "TCP", Port: 80, TargetPort: intstr.FromInt32(80)}, udp("port-2", 53, intstr.FromInt32(53))}, "None"},
		"x3": {map[string]string{"a": "b"}, map[string]string{"c": "d"}, []corev1.ServicePort{udp("", 53, intstr.FromString("dns"))}, "ClientIP"},
		"x4": {payment, payment, []corev1.ServicePort{udp("port-1", 80, intstr.FromInt32(80)), udp("port-2", 90, intstr.FromInt32(90))}, "None"},
		"p2": {payment, payment, nil, "None"},
	}
	for name, want := range wanted {
		svc := f.Snapshot().Service("finance", name)
		if svc == nil {
			t.Errorf("there is no %s", name)
			continue
		}
		got := service{svc.Labels, svc.Spec.Selector, svc.Spec.Ports, svc.Spec.SessionAffinity}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
