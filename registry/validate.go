package registry

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Validate checks obj, after SetDefaults, by the rules and in the words of
// Kubernetes' API server, and returns everything that is wrong with it.
func Validate(obj Object) field.ErrorList {
	k := KindOf(obj)
	errs := apivalidation.ValidateObjectMetaAccessor(obj, k.Namespaced, k.validName(), field.NewPath("metadata"))
	switch obj := obj.(type) {
	case *corev1.Service:
		errs = append(errs, validateService(obj)...)
		errs = append(errs, validateLoadBalancerStatus(obj)...)
	case *corev1.Pod:
		errs = append(errs, validatePod(obj)...)
	case *discoveryv1.EndpointSlice:
		errs = append(errs, validateEndpointSlice(obj)...)
	case *corev1.Endpoints:
		errs = append(errs, validateEndpoints(obj)...)
	case *corev1.Event:
		errs = append(errs, validateEvent(obj)...)
	case *networkingv1.IPAddress:
		errs = append(errs, validateParentRef(obj.Spec.ParentRef)...)
	case *NodePort:
		errs = append(errs, validateParentRef(obj.Spec.ParentRef)...)
	case *networkingv1.ServiceCIDR:
		errs = append(errs, validateServiceCIDR(obj)...)
	}
	return errs
}

// ValidateUpdate checks that old may become obj, beyond what Validate says of
// obj alone.
func ValidateUpdate(obj, old Object) field.ErrorList {
	errs := apivalidation.ValidateObjectMetaAccessorUpdate(obj, old, field.NewPath("metadata"))
	switch obj := obj.(type) {
	case *corev1.Service:
		errs = append(errs, validateServiceUpdate(obj, old.(*corev1.Service))...)
	case *corev1.Pod:
		errs = append(errs, validatePodUpdate(obj, old.(*corev1.Pod))...)
	case *discoveryv1.EndpointSlice:
		errs = append(errs, apivalidation.ValidateImmutableField(
			obj.AddressType, old.(*discoveryv1.EndpointSlice).AddressType, field.NewPath("addressType"))...)
	case *networkingv1.IPAddress:
		errs = append(errs, apivalidation.ValidateImmutableField(
			obj.Spec.ParentRef, old.(*networkingv1.IPAddress).Spec.ParentRef, field.NewPath("spec", "parentRef"))...)
	case *NodePort:
		errs = append(errs, apivalidation.ValidateImmutableField(
			obj.Spec.ParentRef, old.(*NodePort).Spec.ParentRef, field.NewPath("spec", "parentRef"))...)
	case *networkingv1.ServiceCIDR:
		errs = append(errs, validateServiceCIDRUpdate(obj, old.(*networkingv1.ServiceCIDR))...)
	}
	return errs
}

// validName returns what checks a name of the Kind.
func (k *Kind) validName() apivalidation.ValidateNameFunc {
	switch k {
	case Services, Namespaces: // KEP-5311: Services may begin with a digit
		return apivalidation.NameIsDNSLabel
	case NodePorts:
		return validNodePort
	case IPAddresses:
		return func(name string, _ bool) []string {
			if addr, ok := parseAddr(name); !ok || addr.String() != name {
				return []string{"must be a valid IP address in canonical form"}
			}
			return nil
		}
	}
	return apivalidation.NameIsDNSSubdomain
}

func validateEvent(ev *corev1.Event) field.ErrorList {
	ns := ev.InvolvedObject.Namespace
	if ns == ev.Namespace || ns == "" && ev.Namespace == "default" {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("involvedObject", "namespace"), ns, "does not match event.namespace")}
}

// validateParentRef checks what says to whom an address or a port belongs.
func validateParentRef(ref *networkingv1.ParentReference) field.ErrorList {
	path := field.NewPath("spec", "parentRef")
	var errs field.ErrorList
	switch {
	case ref == nil:
		errs = append(errs, field.Required(path, ""))
	case ref.Resource == "":
		errs = append(errs, field.Required(path.Child("resource"), ""))
	case ref.Name == "":
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	return errs
}

// oneOf checks an enumerated value, which must not be empty.
func oneOf[T ~string](path *field.Path, value T, supported ...T) field.ErrorList {
	switch {
	case value == "":
		return field.ErrorList{field.Required(path, "")}
	case !slices.Contains(supported, value):
		slices.Sort(supported)
		return field.ErrorList{field.NotSupported(path, value, supported)}
	}
	return nil
}

// invalid reports each of the messages that a check of value gave.
func invalid(path *field.Path, value any, messages []string) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range messages {
		errs = append(errs, field.Invalid(path, value, msg))
	}
	return errs
}

var validateLabels = metav1validation.ValidateLabels

func validateProtocol(path *field.Path, p corev1.Protocol) field.ErrorList {
	return oneOf(path, p, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
}

// validatePortName checks a name that is required and unique where there are
// several ports. seen collects the names.
func validatePortName(path *field.Path, name string, required bool, seen map[string]bool) field.ErrorList {
	if name == "" {
		if required {
			return field.ErrorList{field.Required(path, "")}
		}
		return nil
	}
	errs := invalid(path, name, validation.IsDNS1123Label(name))
	if seen[name] {
		errs = append(errs, field.Duplicate(path, name))
	}
	seen[name] = true
	return errs
}

// validateEndpointIP checks the address of an endpoint. Unlike Kubernetes,
// usher takes loopback addresses: that is where a laptop's backends listen. An
// IPv6 address need not be in its canonical form.
func validateEndpointIP(path *field.Path, ip string) field.ErrorList {
	if errs := validation.IsValidIPForLegacyField(path, ip, true, nil); len(errs) > 0 {
		return errs
	}
	addr, ok := parseAddr(ip)
	switch {
	case !ok:
		return field.ErrorList{field.Invalid(path, ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")}
	case addr.IsUnspecified():
		return field.ErrorList{field.Invalid(path, ip, fmt.Sprintf("may not be unspecified (%v)", ip))}
	case addr.IsLinkLocalUnicast():
		return field.ErrorList{field.Invalid(path, ip, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")}
	case addr.IsLinkLocalMulticast():
		return field.ErrorList{field.Invalid(path, ip, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")}
	}
	return nil
}
