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
//     A filter cannot look into the message of sendmsg(2). UDP sockets are
//     therefore made here, and get descriptors with high numbers: it is about
//     messages on those that the filter asks.
//   - A datagram that names an address of the range is sent here, and what
//     comes to a socket that did so is received here: resolvers want to be
//     answered by whom they asked.
//   - Whatever goes to port 53 is answered by a nameserver of our own, for the
//     program's namespace. Nobody else may resolve names for it.
//   - A program may have an address of its own (Program). Where it means to
//     listen on every address, or on localhost, it listens there, and finds
//     itself there by the name of localhost.
//   - The state is a copy of the daemon's that follows it, and stays as it was
//     when the daemon goes. A UDP flow moves when its Backend no longer serves.
//
// It is Linux on amd64 and arm64 alone; elsewhere the functions return
// errors.ErrUnsupported. Programs of 32 bits are translated, too, but that what
// they send to ClusterIPs by sendmsg(2) is refused, and recvmsg(2) tells them
// the Backend. One in another network namespace than ours reaches no Service: its
// connects to ClusterIPs fail with ENETUNREACH. A UDP socket that has no peer
// cannot be moved below with dup2(2).
//
// What can pass by is sendmsg(2) alone, if it names a ClusterIP: on a UDP socket
// that came through a unix socket (SCM_RIGHTS), was inherited from outside, or
// had a peer when it was moved below; on one that was made in another network
// namespace; and on a raw socket, which takes root.
package direct

import (
	"errors"
	"net/netip"

	"usher/internal/client"
	"usher/registry"
)

// ErrNested is what Probe and Run return where another process is asked
// already: there can be one filter with a listener (seccomp(2), EBUSY).
var ErrNested = errors.New("another process decides on the connections of this one already")

// Options say what programs see.
type Options struct {
	// Client asks the daemon, for as long as the programs run.
	Client *client.Client

	// Services, if not nil, are those that the daemon has: they were listed a
	// moment ago, and are not asked for again.
	Services *client.List

	// ServiceCIDR are the ranges of the ClusterIPs.
	ServiceCIDR []netip.Prefix

	// Namespace is where the programs' short names are looked for, and
	// ClusterDomain where all names of Services are; if "", cluster.local.
	Namespace, ClusterDomain string

	// ResolvConf is the file with the nameservers for all other names; if "",
	// /etc/resolv.conf.
	ResolvConf string

	// Proxy returns where the daemon's proxy listens for a Frontend, and false if
	// nowhere. Those that are Proxied are reached there, and with AllProxied
	// all others too. If nil, the former are refused.
	Proxy      func(registry.FrontendKey) (netip.AddrPort, bool)
	AllProxied bool

	// Node is the name of this node: traffic policies and hints ask for it.
	Node string

	// Say takes what the user of the programs has to know, a line each time.
	// Several goroutines call it.
	Say func(line string)

	// Otherwise is how a program can be run that this is not for.
	Otherwise string
}
