package netenv

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// apiService is the Service of the namespace default that the programs of
// every namespace are told of.
const apiService = "kubernetes"

// ServiceEnv returns the environment variables that Kubernetes gives to the
// programs of a namespace, as NAME=value in the order of the names: those of
// the namespace's Services that have a ClusterIP, and of default/kubernetes
// unless the namespace has a Service of that name. (kubelet's envvars; the
// variables of a Service payment-service are PAYMENT_SERVICE_SERVICE_HOST and
// so on, and those of Docker's links.) Without links, as with the field
// enableServiceLinks of a Pod, only default/kubernetes is there.
func ServiceEnv(services []*corev1.Service, namespace string, links bool) []string {
	chosen := make(map[string]*corev1.Service)
	for _, svc := range services {
		switch {
		case !hasAddress(svc):
		case svc.Namespace == namespace && links:
			chosen[svc.Name] = svc
		case svc.Namespace == metav1.NamespaceDefault && svc.Name == apiService && chosen[svc.Name] == nil:
			chosen[svc.Name] = svc
		}
	}
	env := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(chosen)) {
		addService(env, chosen[name])
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

func hasAddress(svc *corev1.Service) bool {
	return svc.Spec.ClusterIP != "" && svc.Spec.ClusterIP != corev1.ClusterIPNone && len(svc.Spec.Ports) > 0
}

// addService adds the variables of a Service to env.
func addService(env map[string]string, svc *corev1.Service) {
	ip, name := svc.Spec.ClusterIP, variable(svc.Name)
	env[name+"_SERVICE_HOST"] = ip
	env[name+"_SERVICE_PORT"] = strconv.Itoa(int(svc.Spec.Ports[0].Port))
	for i, p := range svc.Spec.Ports {
		port := strconv.Itoa(int(p.Port))
		if p.Name != "" {
			env[name+"_SERVICE_PORT_"+variable(p.Name)] = port
		}
		protocol := strings.ToLower(string(p.Protocol))
		if protocol == "" {
			protocol = "tcp"
		}
		url := protocol + "://" + net.JoinHostPort(ip, port)
		if i == 0 {
			env[name+"_PORT"] = url
		}
		link := fmt.Sprintf("%s_PORT_%s_%s", name, port, strings.ToUpper(protocol))
		env[link] = url
		env[link+"_PROTO"] = protocol
		env[link+"_PORT"] = port
		env[link+"_ADDR"] = ip
	}
}

// variable spells a name as that of a variable.
func variable(name string) string {
	return strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}
