package cli

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"usher/internal/api"
)

// Names of Views.
const (
	// viewAnyIP has the ClusterIPs themselves.
	viewAnyIP = "anyip"

	// viewPrivate is a program's that has a network of its own: the daemon is in
	// none of them.
	viewPrivate = "private"
)

// reachable refuses a daemon that could not connect to the processes of this
// one: one on another machine, or in another network namespace. Their Pods
// would look ready, and every connection would fail.
func reachable(ctx context.Context, server string, status *api.Status) error {
	local, err := onThisMachine(ctx, server)
	if err != nil {
		return err
	}
	if !local {
		return fmt.Errorf("the daemon at %s is on another machine: its Services could not reach processes on this one"+
			"\n  run it there, or start a daemon here: usher serve", server)
	}
	here := networkNamespace()
	for _, v := range status.Views {
		if v.Name != viewPrivate && v.NetNS != 0 && v.NetNS != here {
			return fmt.Errorf("the daemon is in the network namespace %d, and this is another one (%d): its Services could not reach processes here"+
				"\n  run it there:       nsenter -t %d -n -- usher run …"+
				"\n  as ordinary user:   nsenter -t %[3]d -U --preserve-credentials -n -- usher run …", v.NetNS, here, status.PID)
		}
	}
	return nil
}

// onThisMachine reports whether server is a unix socket, or at an address of
// this machine.
func onThisMachine(ctx context.Context, server string) (bool, error) {
	if strings.HasPrefix(server, "unix:") {
		return true, nil
	}
	u, err := url.Parse(server)
	if err != nil {
		return false, err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return false, fmt.Errorf("find the machine of the daemon: %w", err)
	}
	ours, err := net.InterfaceAddrs()
	if err != nil {
		return false, fmt.Errorf("list the addresses of this machine: %w", err)
	}
	return !slices.ContainsFunc(addrs, func(addr netip.Addr) bool {
		return !addr.Unmap().IsLoopback() && !slices.ContainsFunc(ours, func(a net.Addr) bool {
			prefix, err := netip.ParsePrefix(a.String())
			return err == nil && prefix.Addr() == addr.Unmap()
		})
	}), nil
}
