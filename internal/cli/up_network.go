package cli

import (
	"net/netip"
	"sync"

	"usher/internal/agent"
	"usher/internal/api"
)

// upNetworks are what the processes of up see of the network: what those of
// usher run do. All processes of a namespace share one.
type upNetworks struct {
	mu     sync.Mutex // guards the following
	open   map[string]func(netip.Addr) agent.Network
	leaves []func()
}

// enter gives the processes of a the network of a namespace. Where they can have
// none of their own that is said once for all.
func (n *upNetworks) enter(u *upCommand, a *agent.Agent, status *api.Status, namespace string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	network, ok := n.open[namespace]
	if !ok {
		leave, err := u.enterNetwork(a, u.client, status, namespace, netAuto)
		if err != nil {
			return err
		}
		if n.open == nil {
			n.open = make(map[string]func(netip.Addr) agent.Network)
		}
		network, n.open[namespace] = a.Network, a.Network
		n.leaves = append(n.leaves, leave)
	}
	a.Network = network
	return nil
}

// leave ends the networks. The processes must have ended.
func (n *upNetworks) leave() {
	for _, leave := range n.leaves {
		leave()
	}
}
