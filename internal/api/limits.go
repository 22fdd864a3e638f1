package api

import "time"

const (
	// bodyLimit bounds a request's body, in bytes: Kubernetes' own limit. etcd
	// takes half of that.
	bodyLimit = 3 << 20

	// maxHeaderBytes bounds the header of a request.
	maxHeaderBytes = 64 << 10

	// maxRequests bounds the requests that are answered at once by each of the
	// unix socket and the control port, watches apart: Kubernetes'
	// --max-requests-inflight.
	maxRequests = 400

	// maxWatches bounds the watches that each has open at once.
	maxWatches = 256

	// maxStreams bounds the requests that one connection of HTTP/2 has open.
	maxStreams = 100

	// maxConns bounds the connections that one listener has open. More wait in
	// the kernel's queue.
	maxConns = 512
)

// limits are the times that a client and the server give each other.
type limits struct {
	header time.Duration // for a client to say what it wants
	read   time.Duration // to send a whole request
	write  time.Duration // to take the answer; watches have stall
	idle   time.Duration // between two requests of a connection
	grace  time.Duration // for requests to end at shutdown

	// fresh bounds how long a read waits for this node's Store to be filled, or
	// to reach the revision that the client has seen elsewhere.
	fresh time.Duration

	// stall is how long the client of a watch may leave unread what was written
	// to it. A watch holds no queue: beyond the kernel's buffers nothing is kept
	// for it.
	stall time.Duration

	// bookmark is how often a watch says how far it has come.
	bookmark time.Duration
}

// defaultLimits returns those of every Server but in tests.
func defaultLimits() limits {
	return limits{
		header: 5 * time.Second, read: 30 * time.Second, write: time.Minute, idle: 2 * time.Minute, grace: 3 * time.Second,
		fresh: 3 * time.Second, bookmark: time.Minute, // as Kubernetes has them
		stall: 30 * time.Second,
	}
}
