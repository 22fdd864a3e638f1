// Package registry is the model and the truth of usher: the Kubernetes objects
// it keeps, their defaults and validation, the allocation of ClusterIPs, and
// the Store, this node's in-memory copy of them, from which Frontends and
// Backends are derived.
//
// Objects are Kubernetes' own Go types. What is in the Store is shared by all
// its readers and MUST NOT be mutated: DeepCopy first.
//
// The package does no I/O and starts no goroutine. What keeps a Store equal to
// etcd is in registry/etcd; tests fill a Store directly.
package registry
