package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"usher/registry"
)

// maxProbes bounds how many readiness probes of an agent are under way.
const maxProbes = 32

// maxProbeOutput is what is read of an answer or an output, as by the kubelet.
const maxProbeOutput = 10 << 10

// Reasons of Events about probes, as the kubelet has them.
const (
	reasonUnhealthy    = "Unhealthy"
	reasonProbeWarning = "ProbeWarning"
)

// A prober acts on the readinessProbe of a Pod, as the kubelet does. It asks
// more often only as long as a process that has just started has never been
// ready, so that it is in use as soon as it can be.
type prober struct {
	spec *corev1.Probe
	// ask asks once, and returns what is wrong, or else what is worth a warning.
	ask    func(ctx context.Context, timeout time.Duration) (warning string, err error)
	eager  time.Duration                // the longest pause at the start
	slots  chan struct{}                // has an element for each probe under way
	tell   func(reason, message string) // takes Events
	failed atomic.Pointer[string]       // why the last probe failed; nil if it did not
}

// newProber returns the prober of pod, or nil if that has no readinessProbe.
// own knows whose answers count, run runs a command like the process.
func newProber(pod *corev1.Pod, own *probe, run func(context.Context, []string, time.Duration) error) (*prober, error) {
	container := &pod.Spec.Containers[0]
	spec := container.ReadinessProbe
	if spec == nil {
		return nil, nil
	}
	p := &prober{spec: spec, eager: probeEager}
	var err error
	var at endpoint
	switch {
	case spec.Exec != nil:
		p.eager = probePeriod // a process each time
		p.ask = func(ctx context.Context, timeout time.Duration) (string, error) {
			return "", run(ctx, spec.Exec.Command, timeout)
		}
		return p, nil
	case spec.HTTPGet != nil:
		at, err = probeEndpoint(pod, own, spec.HTTPGet.Host, spec.HTTPGet.Port)
		p.ask = askHTTP(spec.HTTPGet, at)
	case spec.TCPSocket != nil:
		at, err = probeEndpoint(pod, own, spec.TCPSocket.Host, spec.TCPSocket.Port)
		p.ask = askTCP(at)
	default:
		at, err = probeEndpoint(pod, own, "", intstr.FromInt32(spec.GRPC.Port))
		p.ask = askGRPC(spec.GRPC, at)
	}
	if target, ok := at.target(pod); ok {
		p.ask = ownOnly(p.ask, own, target)
	}
	return p, err
}

// An endpoint is what a probe connects to.
type endpoint struct {
	host    string
	port    int
	network Network // of the process, if that is where it connects to
}

func (e endpoint) String() string {
	return net.JoinHostPort(e.host, strconv.Itoa(int(given(e.network, corev1.ProtocolTCP, uint16(e.port)))))
}

// target returns the address of e, if that is the Pod's own.
func (e endpoint) target(pod *corev1.Pod) (netip.AddrPort, bool) {
	addr, err := netip.ParseAddr(e.host)
	return netip.AddrPortFrom(addr, uint16(e.port)), err == nil && e.host == pod.Status.PodIP
}

// probeEndpoint returns what a probe of pod connects to.
func probeEndpoint(pod *corev1.Pod, own *probe, host string, port intstr.IntOrString) (endpoint, error) {
	number := registry.ProbePort(port, &pod.Spec.Containers[0])
	if number == 0 {
		return endpoint{}, fmt.Errorf("readiness probe: port %q not found", port.String())
	}
	if host == "" {
		host = pod.Status.PodIP
	}
	at := endpoint{host: host, port: int(number)}
	if host == pod.Status.PodIP {
		at.network = own.network
	}
	return at, nil
}

// ownOnly refuses the answer of another server at a Pod's address.
func ownOnly(ask func(context.Context, time.Duration) (string, error), own *probe, target netip.AddrPort) func(context.Context, time.Duration) (string, error) {
	return func(ctx context.Context, timeout time.Duration) (string, error) {
		warning, err := ask(ctx, timeout)
		if err == nil && !own.own(target) {
			return "", foreignError{target}
		}
		return warning, err
	}
}

// run probes until ctx is done. It calls report with nil when the process turns
// ready and with the reason when it turns not ready again.
func (p *prober) run(ctx context.Context, report func(error)) {
	if !sleep(ctx, seconds(p.spec.InitialDelaySeconds)) {
		return
	}
	start := time.Now()
	ready, answered := false, false
	last, count := false, int32(0) // how the last probes ended, and how many in a row
	for {
		err := p.probe(ctx)
		if ctx.Err() != nil {
			return
		}
		if ok := err == nil; ok == last {
			count++
		} else {
			last, count = ok, 1
		}
		answered = answered || last
		switch {
		case last && !ready && count >= p.spec.SuccessThreshold:
			ready = true
			report(nil)
		case !last && ready && count >= p.spec.FailureThreshold:
			ready = false
			report(err)
		}
		wait := seconds(p.spec.PeriodSeconds)
		if !answered && time.Since(start) < probeEagerUntil {
			wait = min(wait, p.eager)
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// probe probes once, and tells what was wrong.
func (p *prober) probe(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	timeout := seconds(p.spec.TimeoutSeconds)
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	warning, err := p.ask(limited, timeout)
	switch {
	case ctx.Err() != nil: // no failure of the process
	case err != nil:
		p.failed.Store(new(err.Error()))
		p.tell(reasonUnhealthy, "Readiness probe failed: "+err.Error())
	default:
		p.failed.Store(nil)
		if warning != "" {
			p.tell(reasonProbeWarning, "Readiness probe warning: "+warning)
		}
	}
	return err
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

// sleep waits, and returns false if ctx is done first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
