package registry

// Ndots is how many dots a name has at least that a Pod tries as it is before it
// tries its search path (option ndots of its resolv.conf).
const Ndots = 5

// SearchPath returns the search path of the Pods of a namespace.
func SearchPath(namespace, clusterDomain string) []string {
	return []string{namespace + ".svc." + clusterDomain, "svc." + clusterDomain, clusterDomain}
}
