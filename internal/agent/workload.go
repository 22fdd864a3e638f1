package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"usher/registry"
)

// maxReplicas keeps a slip of the finger from taking the machine down.
const maxReplicas = 1000

// A Workload is what to run: a number of processes of the same command, each
// of them one Pod.
type Workload struct {
	Name      string // the Pods are Name-0, Name-1, …, as in a StatefulSet
	Namespace string
	Labels    map[string]string // if nil, app=Name
	Ports     []corev1.ContainerPort
	Replicas  int
	Command   []string // the program and its arguments
	Dir       string   // where it runs; if empty, where the agent does

	// Restart says which processes that ended by themselves are started again.
	// If empty, none.
	Restart corev1.RestartPolicy

	// Readiness says when a Pod is ready. If nil, it is while its process
	// accepts connections on its TCP ports.
	Readiness *corev1.Probe

	// NoServiceLinks says that Environ does not have the variables of the
	// namespace's Services (enableServiceLinks: false).
	NoServiceLinks bool

	// Grace is the time from SIGTERM to SIGKILL, in whole seconds. If zero,
	// Kubernetes' 30 s.
	Grace time.Duration
}

// Validate reports everything that is wrong with w, in Kubernetes' words.
func (w Workload) Validate() error {
	var errs field.ErrorList
	// The name becomes that of a container, which is a DNS label.
	for _, msg := range validation.IsDNS1123Label(w.Name) {
		errs = append(errs, field.Invalid(field.NewPath("name"), w.Name, msg))
	}
	for _, msg := range validation.IsDNS1123Label(w.Namespace) {
		errs = append(errs, field.Invalid(field.NewPath("namespace"), w.Namespace, msg))
	}
	errs = append(errs, metav1validation.ValidateLabels(w.Labels, field.NewPath("labels"))...)
	if w.Replicas < 1 || w.Replicas > maxReplicas {
		errs = append(errs, field.Invalid(field.NewPath("replicas"), w.Replicas, validation.InclusiveRangeError(1, maxReplicas)))
	}
	if len(w.Command) == 0 {
		errs = append(errs, field.Required(field.NewPath("command"), ""))
	}
	if policies := []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyNever, corev1.RestartPolicyOnFailure}; w.Restart != "" && !slices.Contains(policies, w.Restart) {
		errs = append(errs, field.NotSupported(field.NewPath("restartPolicy"), w.Restart, policies))
	}
	errs = append(errs, validatePorts(w.Ports)...)
	if w.Readiness != nil {
		errs = append(errs, w.validateReadiness(field.NewPath("readinessProbe"))...)
	}
	return errs.ToAggregate()
}

// validateReadiness checks the probe, and that there is a port of the name that
// it has for one.
func (w Workload) validateReadiness(path *field.Path) field.ErrorList {
	c := corev1.Container{Ports: w.Ports, ReadinessProbe: w.Readiness.DeepCopy()}
	errs := registry.ValidateReadiness(path, &c)
	if len(errs) > 0 {
		return errs
	}
	var port intstr.IntOrString
	switch p := c.ReadinessProbe; {
	case p.HTTPGet != nil:
		port, path = p.HTTPGet.Port, path.Child("httpGet", "port")
	case p.TCPSocket != nil:
		port, path = p.TCPSocket.Port, path.Child("tcpSocket", "port")
	default:
		return nil
	}
	if registry.ProbePort(port, &c) == 0 {
		errs = append(errs, field.NotFound(path, port.String()))
	}
	return errs
}

func validatePorts(ports []corev1.ContainerPort) field.ErrorList {
	type listener struct {
		port     int32
		protocol corev1.Protocol
	}
	var errs field.ErrorList
	names := make(map[string]bool)
	listeners := make(map[listener]bool)
	for i, p := range ports {
		path := field.NewPath("ports").Index(i)
		if p.Name != "" && names[p.Name] {
			errs = append(errs, field.Duplicate(path.Child("name"), p.Name))
		}
		if l := (listener{p.ContainerPort, p.Protocol}); listeners[l] {
			errs = append(errs, field.Duplicate(path.Child("containerPort"), p.ContainerPort))
		} else {
			listeners[l] = true
		}
		names[p.Name] = true
	}
	return errs
}

// pod returns the Pod of replica i as it is first created: without an address,
// which the API chooses.
func (w Workload) pod(i int, nodeName string) *corev1.Pod {
	labels := w.Labels
	if labels == nil {
		labels = map[string]string{"app": w.Name}
	}
	pod := registry.Pods.New().(*corev1.Pod)
	pod.ObjectMeta = metav1.ObjectMeta{
		Name: fmt.Sprintf("%s-%d", w.Name, i), Namespace: w.Namespace, Labels: labels,
	}
	pod.Spec = corev1.PodSpec{
		NodeName:                      nodeName,
		RestartPolicy:                 cmp.Or(w.Restart, corev1.RestartPolicyNever),
		EnableServiceLinks:            new(!w.NoServiceLinks),
		TerminationGracePeriodSeconds: new(int64(cmp.Or(w.Grace, corev1.DefaultTerminationGracePeriodSeconds*time.Second) / time.Second)),
		Containers: []corev1.Container{{
			Name: w.Name, Image: registry.ProcessImage, Command: w.Command, Ports: w.Ports, ReadinessProbe: w.Readiness.DeepCopy(),
		}},
	}
	return pod
}

// environment returns what the process of pod finds in its environment about
// itself: HOST and PORT say where to listen, PORT_<NAME> is there for every
// port with a name.
func environment(pod *corev1.Pod) []string {
	env := []string{
		"POD_NAME=" + pod.Name,
		"POD_NAMESPACE=" + pod.Namespace,
		"POD_IP=" + pod.Status.PodIP,
		"HOST=" + pod.Status.PodIP,
	}
	for i, p := range pod.Spec.Containers[0].Ports {
		number := strconv.Itoa(int(p.ContainerPort))
		if i == 0 {
			env = append(env, "PORT="+number)
		}
		if p.Name != "" {
			env = append(env, "PORT_"+strings.ToUpper(strings.ReplaceAll(p.Name, "-", "_"))+"="+number)
		}
	}
	return env
}
