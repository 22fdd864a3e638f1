// Package api is the Kubernetes REST API over the registry: the paths, verbs,
// status errors and tables that Kubernetes' clients expect, on a unix socket
// and on one TCP control port. A Writer is the only writer of the registry.
//
// It carries no Service's traffic.
package api
