// Package direct runs a program that reaches ClusterIPs although nobody has
// them: what it connects is connected to a Backend instead.
//
// The program runs under a seccomp filter that asks this process about each
// connect(2), and about what else names an address. An address outside the
// service range goes on as it is. For one inside, the program's own socket is
// connected to a Backend here, through a duplicate that lives as long as the
// call (pidfd_getfd(2)): from then on nobody is between the two. The program
// stays in the namespaces of its caller, no file is changed for it, and none
// of it takes a privilege.
//
// What the rules are for:
//
//   - An address of the range that is no Service, or has no Backend, is
//     refused. It never goes on: the default route would take it to a stranger.
//   - What cannot be read or duplicated is refused too, with a word why.
//   - The duplicate is closed before the answer: it would keep the port, and
//     the end of the connection from the Backend.
//   - As few calls as possible are asked about: each costs the program some
//     10 us, and a signal that arrives in between makes it fail with EINTR.
//   - The state is a copy of the daemon's that follows it, and stays as it was
//     when the daemon goes.
//
// It is Linux on amd64 and arm64 alone; elsewhere the functions return
// errors.ErrUnsupported. Programs of another ABI, as 32-bit ones, are not
// translated, and neither are names, nor datagrams that name their address in
// sendmsg(2): those still take the way that the machine has for them.
package direct

import (
	"errors"
	"io"
	"net/netip"

	"usher/internal/client"
)

// ErrNested is what Probe and Run return where another process is asked
// already: there can be one filter with a listener (seccomp(2), EBUSY).
var ErrNested = errors.New("another process decides on the connections of this one already")

// Options say what to run and what it sees.
type Options struct {
	// Args are the program and its arguments. A name without a slash is
	// looked for in PATH.
	Args []string

	// Env is the environment of the program, as os.Environ returns it; of a
	// name that is there twice the last value counts.
	Env []string

	// Client asks the daemon. Run uses it for as long as it runs.
	Client *client.Client

	// ServiceCIDR are the ranges of the ClusterIPs.
	ServiceCIDR []netip.Prefix

	// Node is the name of this node: traffic policies and hints ask for it.
	Node string

	// Stderr takes what the program's user has to know, a line each.
	Stderr io.Writer
}
