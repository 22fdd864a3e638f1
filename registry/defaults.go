package registry

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// SetDefaults fills in what obj leaves open, as Kubernetes' API server does.
func SetDefaults(obj Object) {
	switch obj := obj.(type) {
	case *corev1.Service:
		defaultService(obj)
	case *corev1.Pod:
		defaultPod(obj)
	case *corev1.Namespace:
		defaultNamespace(obj)
	case *corev1.Endpoints:
		for i := range obj.Subsets {
			for j := range obj.Subsets[i].Ports {
				setDefault(&obj.Subsets[i].Ports[j].Protocol, corev1.ProtocolTCP)
			}
		}
	case *discoveryv1.EndpointSlice:
		for i := range obj.Ports {
			setNil(&obj.Ports[i].Name, "")
			setNil(&obj.Ports[i].Protocol, corev1.ProtocolTCP)
		}
	}
}

func defaultService(svc *corev1.Service) {
	spec := &svc.Spec
	setDefault(&spec.Type, corev1.ServiceTypeClusterIP)
	setDefault(&spec.SessionAffinity, corev1.ServiceAffinityNone)
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		spec.SessionAffinityConfig = nil
	case corev1.ServiceAffinityClientIP:
		if c := spec.SessionAffinityConfig; c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
			spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{
				ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(corev1.DefaultClientIPServiceAffinitySeconds)},
			}
		}
	}
	for i := range spec.Ports {
		p := &spec.Ports[i]
		setDefault(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == intstr.FromInt32(0) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	switch spec.Type {
	case corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeClusterIP:
		setNil(&spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	}
	if externallyAccessible(svc) {
		setDefault(&spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		setNil(&spec.AllocateLoadBalancerNodePorts, true)
		for i := range svc.Status.LoadBalancer.Ingress {
			if in := &svc.Status.LoadBalancer.Ingress[i]; in.IP != "" {
				setNil(&in.IPMode, corev1.LoadBalancerIPModeVIP)
			}
		}
	}
}

// externallyAccessible reports whether svc may be reached other than by its
// ClusterIP.
func externallyAccessible(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeNodePort || svc.Spec.Type == corev1.ServiceTypeLoadBalancer ||
		svc.Spec.Type == corev1.ServiceTypeClusterIP && len(svc.Spec.ExternalIPs) > 0
}

func defaultPod(pod *corev1.Pod) {
	spec := &pod.Spec
	setDefault(&spec.RestartPolicy, corev1.RestartPolicyAlways)
	setDefault(&spec.DNSPolicy, corev1.DNSClusterFirst)
	setNil(&spec.TerminationGracePeriodSeconds, int64(corev1.DefaultTerminationGracePeriodSeconds))
	setNil(&spec.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	setNil(&spec.SecurityContext, corev1.PodSecurityContext{}) // kubectl debug does not look whether there is one
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			for j := range containers[i].Ports {
				setDefault(&containers[i].Ports[j].Protocol, corev1.ProtocolTCP)
			}
			defaultProbes(&containers[i])
		}
	}
	setDefault(&pod.Status.Phase, corev1.PodPending)
	switch {
	case pod.Status.PodIP != "" && (len(pod.Status.PodIPs) == 0 || pod.Status.PodIPs[0].IP != pod.Status.PodIP): // which comes first, as in Kubernetes
		pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
	case pod.Status.PodIP == "" && len(pod.Status.PodIPs) > 0:
		pod.Status.PodIP = pod.Status.PodIPs[0].IP
	}
}

func defaultNamespace(ns *corev1.Namespace) {
	if ns.Name != "" && ns.Labels[corev1.LabelMetadataName] == "" {
		if ns.Labels == nil {
			ns.Labels = make(map[string]string)
		}
		ns.Labels[corev1.LabelMetadataName] = ns.Name
	}
	setDefault(&ns.Status.Phase, corev1.NamespaceActive)
}

// setDefault sets *p to value where it is the zero value.
func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// setNil sets *p to point to value where it is nil.
func setNil[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}
