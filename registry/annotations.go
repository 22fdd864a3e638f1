package registry

import "net/netip"

// AnnotationLease names, on a Pod, the lease that keeps the Pod in the
// registry. The value is a name out of /apis/usher.internal/v1/leases.
const AnnotationLease = "usher.internal/lease"

// PodCIDR has the addresses of Pods that usher itself runs: a Pod created
// under a lease without a podIP gets one of them.
var PodCIDR = netip.MustParsePrefix("127.244.0.0/16")
