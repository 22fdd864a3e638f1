// Package sockets lends sockets of one network namespace to a process in
// another one: a socket stays in the namespace where it was opened, whoever has
// it. So a daemon listens in a namespace that it cannot enter.
//
// The lender is a process in the namespace and the borrower asks it for one
// socket at a time, over a connection of unix sockets that began as a request
// of HTTP/1.1 (see Offer): two bytes name the family and the type, one byte and
// a descriptor (SCM_RIGHTS) answer, or the number of an error alone. Twice 0 is
// no question: the borrower says that it has all that it wants for now.
package sockets

import (
	"errors"
	"time"
)

// Protocol is the name that the request is upgraded to (RFC 9110, 7.8).
const Protocol = "usher-sockets"

// patience bounds the wait for an answer. The lender does nothing else, and is
// in no process group that a terminal stops.
const patience = 2 * time.Second

var errEnded = errors.New("the process that lends sockets has ended")

// A question is what is asked for: nothing is the zero value.
type question struct{ domain, kind byte }
