// Package netenv runs a program in an environment in which the names of
// Services resolve: the modes host and private of `usher exec`.
//
// The program gets a mount namespace in which resolv.conf names usher's DNS
// with the search path of a Kubernetes namespace, nsswitch.conf sends host
// names there, and nscd is out of the way. No file of the host is changed. The
// network namespace stays the caller's, where the ClusterIPs have to be visible
// already, or is one of the program's own (Options.Private), whose sockets the
// daemon borrows. ServiceEnv has the variables that Kubernetes sets.
//
// The program's resolv.conf stays when the host's changes where that is a link
// into /run, as with systemd-resolved. Where it is a file in /etc, one that is
// renamed to it takes the program's away: the kernel drops what is mounted on
// a file that is replaced, and a directory in the place of /etc would keep the
// program from writing there, and from seeing what others write.
//
// It is Linux alone; elsewhere Exec returns errors.ErrUnsupported.
package netenv

import (
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Options say what to run and which names resolve.
type Options struct {
	// Args are the program and its arguments. A name without a slash is
	// looked for in PATH.
	Args []string

	// Env is the environment of the program, as os.Environ returns it; of a
	// name that is there twice the last value counts. If nil, it is that of
	// this process.
	Env []string

	// Nameserver is the address of usher's DNS, on port 53. It is the only
	// one: musl asks all of them and takes the first answer.
	Nameserver netip.Addr

	// Search is the search path, see registry.SearchPath. That of the host follows.
	Search []string

	// Private, if not nil, gives the program a network namespace of its own, in
	// which there are the Services and nothing else.
	Private *Private
}

// Private says who listens in a network namespace, and where.
type Private struct {
	Socket string         // the path of the daemon's unix socket
	Target string         // of the request that offers it the sockets, see api.PrivateView; netns is set
	CIDRs  []netip.Prefix // ranges of ClusterIPs
}

func (o Options) environ() []string {
	if o.Env == nil {
		return Environ(os.Environ())
	}
	return Environ(o.Env)
}

// Environ returns env without duplicates: some programs take the first value
// of a name, others the last, which is the one that stays.
func Environ(env []string) []string {
	seen := make(map[string]bool, len(env))
	var kept []string
	for _, kv := range slices.Backward(env) {
		name, _, _ := strings.Cut(kv, "=")
		if seen[name] {
			continue
		}
		seen[name] = true
		kept = append(kept, kv)
	}
	slices.Reverse(kept)
	return kept
}
