package cli

import (
	"fmt"
	"net/netip"

	"usher/internal/agent"
	"usher/internal/api"
	"usher/internal/client"
	"usher/internal/direct"
)

// What the processes of run see of the network.
const (
	netAuto = "auto" // pod if it works, otherwise host
	netPod  = "pod"  // an address of their own, and Services
	netHost = "host" // what everybody sees
)

var networks = []string{netAuto, netPod, netHost}

// enterNetwork gives the processes of a in a namespace the network of that name.
// The caller must call leave after they have ended.
func (g *globals) enterNetwork(a *agent.Agent, c *client.Client, status *api.Status, namespace, name string) (leave func(), err error) {
	if name == netHost {
		return func() {}, nil
	}
	if err := translates(status); err != nil {
		if name == netPod {
			return nil, fmt.Errorf("give processes a network of their own: %w", err)
		}
		fmt.Fprintf(g.env.Stderr, "usher: --net host: %s; the processes find their addresses in $HOST and $PORT\n", firstLine(err))
		return func() {}, nil
	}
	o, err := g.translation(c, status, namespace)
	if err != nil {
		return nil, err
	}
	o.Otherwise = "usher run --net host"
	t, err := direct.Open(o)
	if err != nil {
		return nil, err
	}
	a.Network = func(address netip.Addr) agent.Network { return t.Program(address) }
	return t.Close, nil
}
