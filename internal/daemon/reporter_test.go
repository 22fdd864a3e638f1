package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"usher/internal/api"
	"usher/internal/config"
	"usher/proxy"
	"usher/registry"
)

const simpleService = `
kind: Service
apiVersion: v1
metadata: {name: web, namespace: finance}
spec: {clusterIP: 10.96.0.5, ports: [{port: 80}]}`

// newTestReporter returns a reporter whose writes end in a Store, and what
// says that the registry is away: then writes fail.
func newTestReporter(t *testing.T) (r *reporter, away *atomic.Bool) {
	t.Helper()
	away = new(atomic.Bool)
	d := &daemon{Options: Options{Config: &config.Config{}, Log: slog.New(slog.DiscardHandler)}, store: registry.NewStore()}
	d.store.Replace(1, nil)
	d.events = api.NewRecorder(nil, "here", d.Log)
	d.proxy = proxy.New(proxy.Options{Store: d.store, Engine: "portable", Listen: func(registry.FrontendKey) []proxy.ListenAddr { return nil }})
	r = newReporter(d)
	r.write = func(_ context.Context, svc *corev1.Service) error {
		if away.Load() {
			return errors.New("etcd is away")
		}
		d.store.Apply(d.store.Snapshot().Revision()+1, []registry.Write{{Key: registry.KeyOf(svc), Object: svc}})
		return nil
	}
	return r, away
}

func (r *reporter) written() []string {
	var list []string
	for _, c := range r.d.store.Snapshot().Service("finance", "web").Status.Conditions {
		list = append(list, fmt.Sprintf("%s %s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	return list
}

// TestConditions reports what fails and works again. What the protocols of one
// port do is apart.
func TestConditions(t *testing.T) {
	r, _ := newTestReporter(t)
	put(t, r.d.store, simpleService)
	status := func(protocol corev1.Protocol, err error) proxy.Status {
		at := netip.MustParseAddrPort("127.0.0.1:30080")
		return proxy.Status{
			Frontend: &registry.Frontend{
				FrontendKey: registry.FrontendKey{Address: at.Addr(), Port: at.Port(), Protocol: protocol},
				Service:     types.NamespacedName{Namespace: "finance", Name: "web"},
			},
			Address: proxy.ListenAddr{AddrPort: at}, Err: err,
		}
	}
	const wayOut = "; end the other program, or give the Service another port; usher tries again"
	for _, step := range []struct {
		protocol corev1.Protocol
		err      error
		want     []string
	}{
		{"TCP", nil, nil},
		{"TCP", syscall.EADDRINUSE, []string{"usher.internal/Listening False PortInUse: cannot listen on 127.0.0.1:30080: another program listens there" + wayOut}},
		{"UDP", syscall.EADDRINUSE, []string{"usher.internal/Listening False PortInUse: cannot listen on 127.0.0.1:30080: another program listens there" +
			"; cannot listen on 127.0.0.1:30080/UDP: another program listens there" + wayOut}},
		{"TCP", nil, []string{"usher.internal/Listening False PortInUse: cannot listen on 127.0.0.1:30080/UDP: another program listens there" + wayOut}},
		{"UDP", nil, []string{"usher.internal/Listening True Listening: listening at every address"}},
	} {
		r.listening(status(step.protocol, step.err))
		if !r.updateAll(t.Context()) {
			t.Fatal("the condition is not written")
		}
		if diff := cmp.Diff(step.want, r.written()); diff != "" {
			t.Errorf("%s %v (-want +got):\n%s", step.protocol, step.err, diff)
		}
	}
}

// TestConditionIsRetried takes the registry away while there is something to
// say, and what Services want that is not done.
func TestConditionIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, away := newTestReporter(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		go func() { done <- r.d.proxy.Run(ctx) }()
		go func() { done <- r.run(ctx) }()
		defer func() {
			cancel()
			if err := errors.Join(<-done, <-done); err != nil {
				t.Error(err)
			}
		}()
		away.Store(true)
		put(t, r.d.store, `
kind: Service
apiVersion: v1
metadata: {name: web, namespace: finance}
spec: {type: LoadBalancer, clusterIP: 10.96.0.5, loadBalancerSourceRanges: [10.0.0.0/8], ports: [{port: 9, protocol: SCTP}]}`)
		synctest.Wait()
		if got := r.written(); got != nil {
			t.Fatalf("written %q", got)
		}
		away.Store(false)
		time.Sleep(maxRetry) // of the bubble: the condition comes by time alone
		want := []string{"usher.internal/Supported False NotSupported: port 9/SCTP is stored, not proxied; " +
			"loadBalancerSourceRanges are stored, not enforced: clients of the load balancer are on this machine"}
		if diff := cmp.Diff(want, r.written()); diff != "" {
			t.Errorf("after a while (-want +got):\n%s", diff)
		}
		svc := r.d.store.Snapshot().Service("finance", "web").DeepCopy()
		svc.Spec.LoadBalancerSourceRanges, svc.Spec.Ports[0].Protocol = nil, corev1.ProtocolTCP
		r.d.store.Apply(r.d.store.Snapshot().Revision()+1, []registry.Write{{Key: registry.KeyOf(svc), Object: svc}})
		synctest.Wait()
		if diff := cmp.Diff([]string{"usher.internal/Supported True Supported: "}, r.written()); diff != "" {
			t.Errorf("nothing is missing any more (-want +got):\n%s", diff)
		}
	})
}

// TestTransparentCondition asks for what this host cannot do, and stops to.
func TestTransparentCondition(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want []string
	}{
		{"with the capability", nil, nil},
		{"without", syscall.EPERM, []string{"usher.internal/Supported False NotSupported: backends see the address of the proxy, " +
			"not that of the client: usher needs CAP_NET_ADMIN for that (operation not permitted)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := newTestReporter(t)
			r.d.transparent = tt.err
			put(t, r.d.store, strings.Replace(simpleService, "namespace: finance", "namespace: finance, annotations: {usher.internal/client-address: transparent}", 1))
			r.markUnsupported(r.d.store.Snapshot().Service("finance", "web"))
			if !r.updateAll(t.Context()) {
				t.Fatal("the condition is not written")
			}
			if diff := cmp.Diff(tt.want, r.written()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
