package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
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
// UDP has nothing to ask. Where the ports are learned it is ready as soon as it
// listens, or has not done so for a while: it may never.
type probe struct {
	targets []netip.AddrPort
	network Network                                // of the process; nil: that of the agent
	learn   func() ([]corev1.ContainerPort, error) // nil: targets are what they are
	found   atomic.Pointer[[]corev1.ContainerPort] // what was learned last; nil: nothing ever
	address netip.Addr                             // of the Pod
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	sockets func(netip.AddrPort) (listening, error)
	owns    func(inodes []uint64) (owned, known bool) // whether the replica has one of the sockets

	claims  map[netip.AddrPort]*claim
	foreign atomic.Pointer[foreignError] // who answered the last check instead; nil if nobody did
}

// newProbe returns the probe of a process of pod, which is to listen at ports. In
// a Network, without any, they are learned.
func newProbe(pod *corev1.Pod, ports []corev1.ContainerPort, network Network) (*probe, error) {
	addr, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil {
		return nil, fmt.Errorf("read the address of pod %s: %w", pod.Name, err)
	}
	p := &probe{dial: new(net.Dialer).DialContext, sockets: whoListens, network: network, address: addr}
	if len(ports) == 0 && network != nil {
		p.learn = func() ([]corev1.ContainerPort, error) { return learned(network, addr) }
	}
	p.targets = tcpTargets(addr, ports)
	return p, nil
}

// tcpTargets returns the TCP ports at an address.
func tcpTargets(addr netip.Addr, ports []corev1.ContainerPort) []netip.AddrPort {
	var targets []netip.AddrPort
	for _, port := range ports {
		if port.Protocol == corev1.ProtocolTCP {
			targets = append(targets, netip.AddrPortFrom(addr, uint16(port.ContainerPort)))
		}
	}
	return targets
}

// real returns where the process listens that has named target.
func (p *probe) real(target netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(target.Addr(), given(p.network, corev1.ProtocolTCP, target.Port()))
}

// run checks until ctx is done. It calls report with nil when the process
// turns ready and with the reason when it turns not ready again. A process is
// not ready to begin with, which is not reported.
func (p *probe) run(ctx context.Context, report func(error)) {
	start := time.Now()
	ready, failures := false, 0
	for {
		news, err := p.relearn(time.Since(start))
		if err == nil {
			err = p.check(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failures = 0
			if !ready || news {
				ready = true
				report(nil)
			}
		case ready:
			if failures++; failures == probeFailures {
				ready = false
				report(err)
			}
		}
		if len(p.targets) == 0 && p.learn == nil {
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

// listensBy is when a process that listens nowhere is taken for one that never
// will.
const listensBy = 10 * time.Second

// errSilent says that a process listens nowhere.
var errSilent = errors.New("it listens nowhere")

// relearn finds out where the process listens, if that is to be learned, and
// reports whether it is news. age is that of the process.
func (p *probe) relearn(age time.Duration) (news bool, err error) {
	if p.learn == nil {
		return false, nil
	}
	ports, err := p.learn()
	if err != nil {
		return false, err
	}
	before := p.found.Load()
	switch {
	case len(ports) == 0 && (before != nil || age < listensBy):
		return false, errSilent
	case len(ports) == 0, before != nil && slices.Equal(*before, ports):
		return false, nil
	}
	p.targets = tcpTargets(p.address, ports)
	p.found.Store(&ports)
	return true, nil
}

// check connects once to every target and returns the first failure.
func (p *probe) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	for _, target := range p.targets {
		conn, err := p.dial(ctx, "tcp", p.real(target).String())
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
