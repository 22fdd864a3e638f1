package api

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
)

// Group and Version of usher's own resources, such as status and leases.
const (
	Group   = registry.Group
	Version = "v1"
)

// Status is what a daemon says about itself at
// GET /apis/usher.internal/v1/status.
type Status struct {
	metav1.TypeMeta `json:",inline"`

	UsherVersion  string       `json:"usherVersion"`
	NodeName      string       `json:"nodeName"`
	ClusterDomain string       `json:"clusterDomain"`
	ServiceCIDR   []string     `json:"serviceCIDR"`
	PID           int          `json:"pid"`
	Revision      int64        `json:"revision"` // of the Store
	Registry      string       `json:"registry"` // where etcd is, and how it fares
	API           []string     `json:"api"`      // addresses that the API listens on
	Views         []ViewStatus `json:"views"`
	DataDir       string       `json:"dataDir"` // on the daemon's machine
	Services      int          `json:"services"`
	Backends      int          `json:"backends"`
	Conditions    []string     `json:"conditions,omitempty"` // what needs attention, a line each
}

// ViewStatus says where VIPs are visible.
type ViewStatus struct {
	Name       string `json:"name"`                // "anyip" or "loopback"
	CIDR       string `json:"cidr"`                // the addresses Services have in it
	Nameserver string `json:"nameserver"`          // address and port of the DNS in it
	FirstPort  uint16 `json:"firstPort,omitempty"` // ports of Services under it are opened 8000 higher
	NetNS      uint64 `json:"netns"`               // inode of the network namespace it is in; 0 where there are none
	Why        string `json:"why"`                 // why it is there, or what it lacks
}

// Lease is a lease that keeps Pods alive, at /apis/usher.internal/v1/leases:
// POST grants one, PUT renews it, DELETE ends it and with it every Pod whose
// annotation names it.
type Lease struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec LeaseSpec `json:"spec"`
}

// LeaseSpec is the wanted state of a Lease.
type LeaseSpec struct {
	TTLSeconds int64 `json:"ttlSeconds"` // 1 to 3600
}
