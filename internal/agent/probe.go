package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The rhythm of the readiness check. A process that starts is asked often, so
// that it is in use as soon as it listens; one that does not come up is not
// asked often for ever.
const (
	probeEager      = 100 * time.Millisecond
	probeEagerUntil = 30 * time.Second // since the start of the process
	probePeriod     = time.Second
	probeTimeout    = time.Second // of one check: Kubernetes' default
	probeFailures   = 3           // in a row until it is not ready: Kubernetes' default
)

// A probe finds out whether a process is ready: whether it accepts connections
// on each of its TCP ports, itself. One without TCP ports is ready at once, as
// UDP has nothing to ask.
type probe struct {
	targets []netip.AddrPort
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	sockets func(netip.AddrPort) (listening, error)
	owns    func(inodes []uint64) (owned, known bool) // whether the replica has one of the sockets

	claims  map[netip.AddrPort]*claim
	foreign atomic.Pointer[foreignError] // who answered the last check instead; nil if nobody did
}

// newProbe returns the probe of the process of pod.
func newProbe(pod *corev1.Pod) (*probe, error) {
	addr, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil {
		return nil, fmt.Errorf("read the address of pod %s: %w", pod.Name, err)
	}
	p := &probe{dial: new(net.Dialer).DialContext, sockets: whoListens}
	for _, port := range pod.Spec.Containers[0].Ports {
		if port.Protocol == corev1.ProtocolTCP {
			p.targets = append(p.targets, netip.AddrPortFrom(addr, uint16(port.ContainerPort)))
		}
	}
	return p, nil
}

// run checks until ctx is done. It calls report with nil when the process
// turns ready and with the reason when it turns not ready again. A process is
// not ready to begin with, which is not reported.
func (p *probe) run(ctx context.Context, report func(error)) {
	start := time.Now()
	ready, failures := false, 0
	for {
		err := p.check(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failures = 0
			if !ready {
				ready = true
				report(nil)
			}
		case ready:
			if failures++; failures == probeFailures {
				ready = false
				report(err)
			}
		}
		if len(p.targets) == 0 {
			return
		}
		wait := probePeriod
		if !ready && time.Since(start) < probeEagerUntil {
			wait = probeEager
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// check connects once to every target and returns the first failure.
func (p *probe) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	for _, target := range p.targets {
		conn, err := p.dial(ctx, "tcp", target.String())
		if err != nil {
			p.claim(target).taken = false
			p.foreign.Store(nil)
			return err
		}
		own := p.own(target) // while the socket is surely there
		conn.Close()
		if !own {
			err := foreignError{target}
			p.foreign.Store(&err)
			return err
		}
	}
	p.foreign.Store(nil)
	return nil
}
