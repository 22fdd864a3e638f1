package agent

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestProberRun(t *testing.T) {
	between := func(since, now, until time.Duration) bool { return since <= now && now < until }
	spec := func(delay, period, successes, failures int32) corev1.Probe {
		return corev1.Probe{InitialDelaySeconds: delay, PeriodSeconds: period, TimeoutSeconds: 1, SuccessThreshold: successes, FailureThreshold: failures}
	}
	tests := map[string]struct {
		spec   corev1.Probe
		fails  func(at time.Duration) bool
		want   []turn
		probes int // in two minutes
	}{
		"ready at once": {
			spec: spec(0, 10, 1, 3), fails: func(time.Duration) bool { return false },
			want: []turn{{0, true}}, probes: 12,
		},
		"after its delay": {
			spec: spec(20, 10, 1, 3), fails: func(time.Duration) bool { return false },
			want: []turn{{20 * time.Second, true}}, probes: 10,
		},
		"asked often until it answers": {
			spec: spec(0, 10, 1, 3), fails: func(at time.Duration) bool { return at < 2*time.Second },
			want: []turn{{2 * time.Second, true}}, probes: 20 + 12,
		},
		"never ready: asked often for 30 s only": {
			spec: spec(10, 5, 1, 1), fails: func(time.Duration) bool { return true },
			probes: 300 + 16,
		},
		"three successes": {
			spec: spec(0, 10, 3, 3), fails: func(at time.Duration) bool { return at == 20*time.Second },
			want: []turn{{50 * time.Second, true}}, probes: 12,
		},
		"failures below the threshold": {
			spec: spec(0, 10, 1, 3), fails: func(at time.Duration) bool { return between(30*time.Second, at, 50*time.Second) },
			want: []turn{{0, true}}, probes: 12,
		},
		"failures in a row": {
			spec: spec(0, 5, 2, 3), fails: func(at time.Duration) bool { return between(30*time.Second, at, 60*time.Second) },
			want: []turn{{5 * time.Second, true}, {40 * time.Second, false}, {65 * time.Second, true}}, probes: 24,
		},
		"one failure is one too many": {
			spec: spec(0, 1, 1, 1), fails: func(at time.Duration) bool { return at == 7*time.Second },
			want: []turn{{0, true}, {7 * time.Second, false}, {8 * time.Second, true}}, probes: 120,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, probes, events := time.Now(), 0, 0
				failed := 0
				p := &prober{
					spec: &tt.spec, eager: probeEager, slots: make(chan struct{}, 1),
					tell: func(string, string) { events++ },
					ask: func(context.Context, time.Duration) (string, error) {
						probes++
						if tt.fails(time.Since(start)) {
							failed++
							return "", errors.New("no")
						}
						return "", nil
					},
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute-time.Millisecond)
				defer cancel()
				var got []turn
				p.run(ctx, func(err error) { got = append(got, turn{time.Since(start), err == nil}) })
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
				if probes != tt.probes || events != failed {
					t.Errorf("%d probes, want %d; %d events of %d failures", probes, tt.probes, events, failed)
				}
			})
		})
	}
}

// A probe that hangs fails after its time, and holds up neither the end nor,
// beyond the bound, anybody else.
func TestProberHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots := make(chan struct{}, 1)
		newHanging := func() *prober {
			return &prober{
				spec: &corev1.Probe{PeriodSeconds: 10, TimeoutSeconds: 3, SuccessThreshold: 1, FailureThreshold: 1}, eager: time.Minute,
				slots: slots, tell: func(string, string) {},
				ask: func(ctx context.Context, timeout time.Duration) (string, error) {
					<-ctx.Done()
					return "", ctx.Err()
				},
			}
		}
		start := time.Now()
		second := make(chan time.Duration)
		first := newHanging()
		go func() {
			synctest.Wait() // the first one has the slot
			_ = newHanging().probe(t.Context())
			second <- time.Since(start)
		}()
		if err := first.probe(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("ended with %v after %v, want a timeout after 3s", err, time.Since(start))
		}
		if took := <-second; took != 6*time.Second {
			t.Errorf("the second ended after %v, want 6s: it has to wait for the first", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start = time.Now()
		p := newHanging()
		p.tell = func(_, message string) { t.Errorf("told %q", message) }
		p.run(ctx, func(error) { t.Error("reported") })
		if took := time.Since(start); took != time.Second {
			t.Errorf("run ended after %v, want 1s", took)
		}
	})
}

// The port may have a name; without a host the Pod's own address is asked, and
// there nobody else's answer counts.
func TestNewProber(t *testing.T) {
	pod := &corev1.Pod{
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: "TCP"}, {Name: "admin", ContainerPort: 8081, Protocol: "TCP"}},
		}}},
		Status: corev1.PodStatus{PodIP: "127.244.0.1"},
	}
	for name, want := range map[string]string{"http": "127.244.0.1:8080", "admin": "127.244.0.1:8081"} {
		if at, err := probeEndpoint(pod, new(probe), "", intstr.FromString(name)); err != nil || at.String() != want {
			t.Errorf("port %s is %v, %v, want %s", name, at, err, want)
		}
	}
	if at, err := probeEndpoint(pod, new(probe), "localhost", intstr.FromInt32(1)); err != nil || at.String() != "localhost:1" {
		t.Errorf("%v, %v, want localhost:1", at, err)
	}
	pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("none")}}}
	if _, err := newProber(pod, nil, nil); err == nil || err.Error() != `readiness probe: port "none" not found` {
		t.Errorf("error %v", err)
	}
	target := netip.MustParseAddrPort("127.244.0.1:8080")
	own := &probe{sockets: func(netip.AddrPort) (listening, error) { return listening{inodes: []uint64{7}}, nil },
		owns: func([]uint64) (bool, bool) { return false, true }}
	yes := func(context.Context, time.Duration) (string, error) { return "", nil }
	if _, err := ownOnly(yes, own, target)(t.Context(), time.Second); !errors.Is(err, foreignError{target}) {
		t.Errorf("error %v, want %v", err, foreignError{target})
	}
	own = &probe{sockets: own.sockets, owns: func([]uint64) (bool, bool) { return true, true }}
	if _, err := ownOnly(yes, own, target)(t.Context(), time.Second); err != nil {
		t.Error(err)
	}
}
