package registry

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// A namedProbe is a probe, or none, and the field of a container that it is in.
type namedProbe struct {
	name string
	*corev1.Probe
}

func probesOf(c *corev1.Container) []namedProbe {
	return []namedProbe{{"livenessProbe", c.LivenessProbe}, {"readinessProbe", c.ReadinessProbe}, {"startupProbe", c.StartupProbe}}
}

// defaultProbes fills in what the probes of a container leave open.
func defaultProbes(c *corev1.Container) {
	for _, p := range probesOf(c) {
		if p.Probe == nil {
			continue
		}
		setDefault(&p.TimeoutSeconds, 1)
		setDefault(&p.PeriodSeconds, 10)
		setDefault(&p.SuccessThreshold, 1)
		setDefault(&p.FailureThreshold, 3)
		if p.HTTPGet != nil {
			setDefault(&p.HTTPGet.Path, "/")
			setDefault(&p.HTTPGet.Scheme, corev1.URISchemeHTTP)
		}
		if p.GRPC != nil {
			setNil(&p.GRPC.Service, "")
		}
	}
}

// validateProbes checks the probes of a Pod's containers.
func validateProbes(path *field.Path, spec *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	for i := range spec.InitContainers {
		c, at := &spec.InitContainers[i], path.Child("initContainers").Index(i)
		for _, p := range probesOf(c) {
			if deref(c.RestartPolicy, "") == corev1.ContainerRestartPolicyAlways {
				errs = append(errs, validateProbe(at.Child(p.name), p)...)
			} else if p.Probe != nil {
				errs = append(errs, field.Forbidden(at.Child(p.name), "may not be set for init containers without restartPolicy=Always"))
			}
		}
	}
	for i := range spec.Containers {
		for _, p := range probesOf(&spec.Containers[i]) {
			errs = append(errs, validateProbe(path.Child("containers").Index(i).Child(p.name), p)...)
		}
	}
	return errs
}

// ValidateReadiness checks the readinessProbe of a container that is not in a
// Pod yet, and fills in what it leaves open.
func ValidateReadiness(path *field.Path, c *corev1.Container) field.ErrorList {
	defaultProbes(c)
	return validateProbe(path, namedProbe{"readinessProbe", c.ReadinessProbe})
}

func validateProbe(path *field.Path, p namedProbe) field.ErrorList {
	if p.Probe == nil {
		return nil
	}
	errs := validateHandler(path, &p.ProbeHandler)
	for _, n := range []struct {
		name  string
		value int32
	}{
		{"initialDelaySeconds", p.InitialDelaySeconds}, {"timeoutSeconds", p.TimeoutSeconds}, {"periodSeconds", p.PeriodSeconds},
		{"successThreshold", p.SuccessThreshold}, {"failureThreshold", p.FailureThreshold},
	} {
		if n.value < 0 {
			errs = append(errs, field.Invalid(path.Child(n.name), int64(n.value), "must be greater than or equal to 0"))
		}
	}
	if g := p.TerminationGracePeriodSeconds; g != nil && *g <= 0 {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), *g, "must be greater than 0"))
	}
	switch {
	case p.name == "readinessProbe" && p.TerminationGracePeriodSeconds != nil:
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), p.TerminationGracePeriodSeconds, "must not be set for readinessProbes"))
	case p.name != "readinessProbe" && p.SuccessThreshold != 1:
		errs = append(errs, field.Invalid(path.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
	}
	return errs
}

// validateHandler checks what a probe does: one thing. Of two, the first is
// checked and the other refused.
func validateHandler(path *field.Path, h *corev1.ProbeHandler) field.ErrorList {
	handlers := []struct {
		name     string
		is       bool
		validate func(*field.Path) field.ErrorList
	}{
		{"exec", h.Exec != nil, func(at *field.Path) field.ErrorList {
			if len(h.Exec.Command) > 0 {
				return nil
			}
			return field.ErrorList{field.Required(at.Child("command"), "")}
		}},
		{"httpGet", h.HTTPGet != nil, func(at *field.Path) field.ErrorList { return validateHTTPGet(at, h.HTTPGet) }},
		{"tcpSocket", h.TCPSocket != nil, func(at *field.Path) field.ErrorList { return validateTargetPort(at.Child("port"), h.TCPSocket.Port) }},
		{"grpc", h.GRPC != nil, func(at *field.Path) field.ErrorList {
			errs := validateTargetPort(at.Child("port"), intstr.FromInt32(h.GRPC.Port))
			if h.GRPC.Mode != nil {
				errs = append(errs, oneOf(at.Child("mode"), *h.GRPC.Mode, corev1.GRPCProbeModePlaintext, corev1.GRPCProbeModeTLS)...)
			}
			return errs
		}},
	}
	var errs field.ErrorList
	seen := false
	for _, handler := range handlers {
		switch {
		case !handler.is:
		case seen:
			errs = append(errs, field.Forbidden(path.Child(handler.name), "may not specify more than 1 handler type"))
		default:
			seen = true
			errs = append(errs, handler.validate(path.Child(handler.name))...)
		}
	}
	if !seen {
		errs = append(errs, field.Required(path, "must specify a handler type"))
	}
	return errs
}

func validateHTTPGet(path *field.Path, get *corev1.HTTPGetAction) field.ErrorList {
	var errs field.ErrorList
	if get.Path == "" {
		errs = append(errs, field.Required(path.Child("path"), ""))
	}
	errs = append(errs, validateTargetPort(path.Child("port"), get.Port)...)
	errs = append(errs, oneOf(path.Child("scheme"), get.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)...)
	for _, h := range get.HTTPHeaders {
		errs = append(errs, invalid(path.Child("httpHeaders"), h.Name, validation.IsHTTPHeaderName(h.Name))...)
	}
	if get.Protocol == nil {
		return errs
	}
	bad := oneOf(path.Child("protocol"), *get.Protocol, corev1.HTTPProtocolHTTP1, corev1.HTTPProtocolHTTP2)
	switch {
	case len(bad) > 0:
		errs = append(errs, bad...)
	case *get.Protocol != corev1.HTTPProtocolHTTP2:
	case get.Scheme != corev1.URISchemeHTTP:
		errs = append(errs, field.Invalid(path.Child("protocol"), *get.Protocol, "is only supported with HTTP (H2C)"))
	case get.Host != "":
		errs = append(errs, field.Invalid(path.Child("host"), get.Host, "must be empty when `protocol` is \"HTTP2\""))
	}
	return errs
}

// ProbePort returns the number of a probe's port on its container, or 0 when
// the container has no port of that name.
func ProbePort(port intstr.IntOrString, c *corev1.Container) int32 {
	if port.Type != intstr.String {
		return port.IntVal
	}
	i := slices.IndexFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == port.StrVal })
	if i < 0 {
		return 0
	}
	return c.Ports[i].ContainerPort
}
