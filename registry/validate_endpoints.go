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
	maxTopologyLabels    = 16
)

func validateEndpointSlice(s *discoveryv1.EndpointSlice) field.ErrorList {
	errs := oneOf(field.NewPath("addressType"), s.AddressType,
		discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)
	if IsDerived(s) {
		errs = append(errs, field.Forbidden(field.NewPath("metadata", "labels").Key(discoveryv1.LabelManagedBy),
			"the slices of this controller follow from Pods and Endpoints; remove the label to write one by hand"))
	}
	errs = append(errs, validateWeight(s)...)
	errs = append(errs, validateSlicePorts(s.Ports, field.NewPath("ports"))...)
	path := field.NewPath("endpoints")
	if len(s.Endpoints) > maxSliceEndpoints {
		return append(errs, field.TooMany(path, len(s.Endpoints), maxSliceEndpoints))
	}
	for i := range s.Endpoints {
		errs = append(errs, validateSliceEndpoint(path.Index(i), &s.Endpoints[i], s.AddressType)...)
	}
	return errs
}

// validateSlicePorts checks the ports of a slice. Their numbers are not: one
// that is none is served by nobody.
func validateSlicePorts(ports []discoveryv1.EndpointPort, path *field.Path) field.ErrorList {
	if len(ports) > maxSlicePorts {
		return field.ErrorList{field.TooMany(path, len(ports), maxSlicePorts)}
	}
	var errs field.ErrorList
	names := make(map[string]bool)
	for i, p := range ports {
		at := path.Index(i)
		if name := deref(p.Name, ""); name != "" {
			errs = append(errs, validatePortName(at.Child("name"), name, false, names)...)
		} else if names[""] {
			errs = append(errs, field.Duplicate(at.Child("name"), ""))
		} else {
			names[""] = true
		}
		errs = append(errs, validateProtocol(at.Child("protocol"), deref(p.Protocol, ""))...)
		if p.AppProtocol != nil {
			errs = append(errs, invalid(at.Child("appProtocol"), *p.AppProtocol, validation.IsQualifiedName(*p.AppProtocol))...)
		}
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
		errs = append(errs, validateSliceAddress(addresses, i, a, addressType)...)
	}
	if e.NodeName != nil {
		errs = append(errs, invalid(path.Child("nodeName"), *e.NodeName, apivalidation.NameIsDNSSubdomain(*e.NodeName, false))...)
	}
	if e.Hostname != nil {
		errs = append(errs, invalid(path.Child("hostname"), *e.Hostname, validation.IsDNS1123Label(*e.Hostname))...)
	}
	if h := e.Hints; h != nil {
		errs = append(errs, validateHints(path.Child("hints"), h)...)
	}
	at := path.Child("deprecatedTopology")
	if len(e.DeprecatedTopology) > maxTopologyLabels {
		errs = append(errs, field.TooMany(at, len(e.DeprecatedTopology), maxTopologyLabels))
	}
	return append(errs, validateLabels(e.DeprecatedTopology, at)...)
}

// validateSliceAddress checks the i-th address of an endpoint. One of the
// wrong family is reported of the whole list, as Kubernetes does.
func validateSliceAddress(path *field.Path, i int, a string, addressType discoveryv1.AddressType) field.ErrorList {
	at := path.Index(i)
	switch addressType {
	case discoveryv1.AddressTypeFQDN:
		return validation.IsFullyQualifiedDomainName(at, a)
	case discoveryv1.AddressTypeIPv6:
		if errs := validation.IsValidIP(at, a); len(errs) > 0 {
			return errs
		}
	case discoveryv1.AddressTypeIPv4:
		if errs := validation.IsValidIPForLegacyField(at, a, true, nil); len(errs) > 0 {
			return errs
		}
	default:
		return nil // the type is reported
	}
	var errs field.ErrorList
	if string(familyOf(a)) != string(addressType) {
		errs = append(errs, field.Invalid(path, a, fmt.Sprintf("must be an %s address", addressType)))
	}
	return append(errs, validateEndpointIP(at, a)...)
}

// validateHints checks for which zones and nodes an endpoint is.
func validateHints(path *field.Path, h *discoveryv1.EndpointHints) field.ErrorList {
	var errs field.ErrorList
	seen := make(map[string]bool)
	at := path.Child("forZones")
	if len(h.ForZones) > maxHints {
		return append(errs, field.TooMany(at, len(h.ForZones), maxHints))
	}
	for i, zone := range h.ForZones {
		name := at.Index(i).Child("name")
		if seen[zone.Name] {
			errs = append(errs, field.Duplicate(name, zone.Name))
		}
		seen[zone.Name] = true
		errs = append(errs, invalid(name, zone.Name, validation.IsValidLabelValue(zone.Name))...)
	}
	at = path.Child("forNodes")
	if len(h.ForNodes) > maxHints {
		return append(errs, field.TooMany(at, len(h.ForNodes), maxHints))
	}
	clear(seen)
	for i, node := range h.ForNodes {
		name := at.Index(i).Child("name")
		if seen[node.Name] {
			errs = append(errs, field.Duplicate(name, node.Name))
		}
		seen[node.Name] = true
		errs = append(errs, invalid(name, node.Name, apivalidation.NameIsDNSSubdomain(node.Name, false))...)
	}
	return errs
}

func validateEndpoints(eps *corev1.Endpoints) field.ErrorList {
	errs := validateWeight(eps)
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
