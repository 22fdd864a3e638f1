package registry

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Limits of Kubernetes' validation of EndpointSlices.
const (
	maxSliceEndpoints    = 1000
	maxSlicePorts        = 20000
	maxEndpointAddresses = 100
	maxHints             = 8
)

func validateEndpointSlice(s *discoveryv1.EndpointSlice) field.ErrorList {
	errs := oneOf(field.NewPath("addressType"), s.AddressType,
		discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)
	if IsDerived(s) {
		errs = append(errs, field.Forbidden(field.NewPath("metadata", "labels").Key(discoveryv1.LabelManagedBy),
			"the slices of this controller follow from Pods and Endpoints; remove the label to write one by hand"))
	}
	path := field.NewPath("ports")
	if len(s.Ports) > maxSlicePorts {
		return append(errs, field.TooMany(path, len(s.Ports), maxSlicePorts))
	}
	names := make(map[string]bool)
	for i, p := range s.Ports {
		at := path.Index(i)
		if name := deref(p.Name, ""); name != "" {
			errs = append(errs, validatePortName(at.Child("name"), name, false, names)...)
		} else if names[""] {
			errs = append(errs, field.Duplicate(at.Child("name"), ""))
		} else {
			names[""] = true
		}
		errs = append(errs, validateProtocol(at.Child("protocol"), deref(p.Protocol, ""))...)
		if p.Port != nil {
			errs = append(errs, invalid(at.Child("port"), *p.Port, validation.IsValidPortNum(int(*p.Port)))...)
		}
		if p.AppProtocol != nil {
			errs = append(errs, invalid(at.Child("appProtocol"), *p.AppProtocol, validation.IsQualifiedName(*p.AppProtocol))...)
		}
	}
	path = field.NewPath("endpoints")
	if len(s.Endpoints) > maxSliceEndpoints {
		return append(errs, field.TooMany(path, len(s.Endpoints), maxSliceEndpoints))
	}
	for i := range s.Endpoints {
		errs = append(errs, validateSliceEndpoint(path.Index(i), &s.Endpoints[i], s.AddressType)...)
	}
	return errs
}

func validateSliceEndpoint(path *field.Path, e *discoveryv1.Endpoint, addressType discoveryv1.AddressType) field.ErrorList {
	var errs field.ErrorList
	addresses := path.Child("addresses")
	switch {
	case len(e.Addresses) == 0:
		errs = append(errs, field.Required(addresses, "must contain at least 1 address"))
	case len(e.Addresses) > maxEndpointAddresses:
		errs = append(errs, field.TooMany(addresses, len(e.Addresses), maxEndpointAddresses))
	}
	for i, a := range e.Addresses {
		at := addresses.Index(i)
		if addressType == discoveryv1.AddressTypeFQDN {
			errs = append(errs, validation.IsFullyQualifiedDomainName(at, a)...)
			continue
		}
		bad := validateEndpointIP(at, a)
		errs = append(errs, bad...)
		if len(bad) == 0 && string(familyOf(a)) != string(addressType) {
			errs = append(errs, field.Invalid(addresses, a, fmt.Sprintf("must be an %s address", addressType)))
		}
	}
	if e.NodeName != nil {
		errs = append(errs, invalid(path.Child("nodeName"), *e.NodeName, apivalidation.NameIsDNSSubdomain(*e.NodeName, false))...)
	}
	if e.Hostname != nil {
		errs = append(errs, invalid(path.Child("hostname"), *e.Hostname, validation.IsDNS1123Label(*e.Hostname))...)
	}
	if h := e.Hints; h != nil {
		at := path.Child("hints")
		if len(h.ForZones) > maxHints {
			errs = append(errs, field.TooMany(at.Child("forZones"), len(h.ForZones), maxHints))
		}
		if len(h.ForNodes) > maxHints {
			errs = append(errs, field.TooMany(at.Child("forNodes"), len(h.ForNodes), maxHints))
		}
	}
	return errs
}

func validateEndpoints(eps *corev1.Endpoints) field.ErrorList {
	var errs field.ErrorList
	for i := range eps.Subsets {
		subset, path := &eps.Subsets[i], field.NewPath("subsets").Index(i)
		if len(subset.Addresses) == 0 && len(subset.NotReadyAddresses) == 0 {
			errs = append(errs, field.Required(path, "must specify `addresses` or `notReadyAddresses`"))
		}
		for j := range subset.Addresses {
			errs = append(errs, validateEndpointAddress(path.Child("addresses").Index(j), &subset.Addresses[j])...)
		}
		for j := range subset.NotReadyAddresses {
			errs = append(errs, validateEndpointAddress(path.Child("notReadyAddresses").Index(j), &subset.NotReadyAddresses[j])...)
		}
		for j, p := range subset.Ports {
			at := path.Child("ports").Index(j)
			errs = append(errs, validatePortName(at.Child("name"), p.Name, len(subset.Ports) > 1, make(map[string]bool))...)
			errs = append(errs, invalid(at.Child("port"), p.Port, validation.IsValidPortNum(int(p.Port)))...)
			errs = append(errs, validateProtocol(at.Child("protocol"), p.Protocol)...)
			if p.AppProtocol != nil {
				errs = append(errs, invalid(at.Child("appProtocol"), *p.AppProtocol, validation.IsQualifiedName(*p.AppProtocol))...)
			}
		}
	}
	return errs
}

func validateEndpointAddress(path *field.Path, a *corev1.EndpointAddress) field.ErrorList {
	errs := validateEndpointIP(path.Child("ip"), a.IP)
	if a.Hostname != "" {
		errs = append(errs, invalid(path.Child("hostname"), a.Hostname, validation.IsDNS1123Label(a.Hostname))...)
	}
	if a.NodeName != nil {
		errs = append(errs, invalid(path.Child("nodeName"), *a.NodeName, apivalidation.NameIsDNSSubdomain(*a.NodeName, false))...)
	}
	return errs
}
