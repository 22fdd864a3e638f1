package registry

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validatePod checks what usher uses of a Pod: its containers' names, ports and
// probes, and its addresses.
func validatePod(pod *corev1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	errs := append(validateWeight(pod), validateMovedPorts(pod)...)
	if len(pod.Spec.Containers) == 0 {
		errs = append(errs, field.Required(path.Child("containers"), ""))
	}
	names := make(map[string]bool)
	errs = append(errs, validateContainers(path.Child("initContainers"), pod.Spec.InitContainers, names)...)
	errs = append(errs, validateContainers(path.Child("containers"), pod.Spec.Containers, names)...)
	errs = append(errs, validateProbes(path, &pod.Spec)...)
	if n := pod.Spec.NodeName; n != "" {
		errs = append(errs, invalid(path.Child("nodeName"), n, apivalidation.NameIsDNSSubdomain(n, false))...)
	}
	if h := pod.Spec.Hostname; h != "" {
		errs = append(errs, invalid(path.Child("hostname"), h, validation.IsDNS1123Label(h))...)
	}
	if s := pod.Spec.Subdomain; s != "" {
		errs = append(errs, invalid(path.Child("subdomain"), s, validation.IsDNS1123Label(s))...)
	}
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), *g, apivalidation.IsNegativeErrorMsg))
	}
	return append(errs, validatePodStatus(pod)...)
}

func validateContainers(path *field.Path, containers []corev1.Container, names map[string]bool) field.ErrorList {
	var errs field.ErrorList
	for i := range containers {
		c, at := &containers[i], path.Index(i)
		errs = append(errs, validatePortName(at.Child("name"), c.Name, true, names)...)
		if c.Image == "" {
			errs = append(errs, field.Required(at.Child("image"), ""))
		}
		portNames := make(map[string]bool)
		for j, p := range c.Ports {
			pp := at.Child("ports").Index(j)
			if p.Name != "" {
				bad := validation.IsValidPortName(p.Name)
				errs = append(errs, invalid(pp.Child("name"), p.Name, bad)...)
				if len(bad) == 0 && portNames[p.Name] {
					errs = append(errs, field.Duplicate(pp.Child("name"), p.Name))
				}
				portNames[p.Name] = true
			}
			errs = append(errs, invalid(pp.Child("containerPort"), p.ContainerPort, validation.IsValidPortNum(int(p.ContainerPort)))...)
			errs = append(errs, validateProtocol(pp.Child("protocol"), p.Protocol)...)
		}
	}
	return errs
}

func validatePodStatus(pod *corev1.Pod) field.ErrorList {
	path := field.NewPath("status")
	errs := oneOf(path.Child("phase"), pod.Status.Phase, corev1.PodPending, corev1.PodRunning,
		corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown)
	ips := pod.Status.PodIPs
	if len(ips) > 0 && ips[0].IP != pod.Status.PodIP {
		errs = append(errs, field.Invalid(path.Child("podIPs").Index(0).Child("ip"), ips[0].IP, "must be equal to `podIP`"))
	}
	for i, ip := range ips {
		at := path.Child("podIPs").Index(i)
		errs = append(errs, validateEndpointIP(at.Child("ip"), ip.IP)...)
		if slices.Index(ips, ip) < i {
			errs = append(errs, field.Duplicate(at, ip.IP))
		}
	}
	if len(ips) > 2 || len(ips) == 2 && familyOf(ips[0].IP) == familyOf(ips[1].IP) {
		errs = append(errs, field.Invalid(path.Child("podIPs"), ips, "may specify no more than one IP for each IP family"))
	}
	return errs
}
