package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// turn is a report of a probe: when, after its start, and whether ready.
type turn struct {
	At    time.Duration
	Ready bool
}

func TestProbeRun(t *testing.T) {
	between := func(since, now, until time.Duration) bool { return since <= now && now < until }
	tests := map[string]struct {
		refuses func(at time.Duration) bool
		want    []turn
		checks  int // in two minutes
	}{
		"listens from the start": {
			refuses: func(time.Duration) bool { return false },
			want:    []turn{{0, true}},
			checks:  120,
		},
		"listens after a while": {
			refuses: func(at time.Duration) bool { return at < 2*time.Second },
			want:    []turn{{2 * time.Second, true}},
			checks:  20 + 118,
		},
		"never listens: asked often for 30 s only": {
			refuses: func(time.Duration) bool { return true },
			checks:  300 + 90,
		},
		"two failures are forgiven": {
			refuses: func(at time.Duration) bool { return between(10*time.Second, at, 12*time.Second) },
			want:    []turn{{0, true}},
			checks:  120,
		},
		"three failures are not": {
			refuses: func(at time.Duration) bool { return between(60*time.Second, at, 65*time.Second) },
			want:    []turn{{0, true}, {62 * time.Second, false}, {65 * time.Second, true}},
			checks:  120,
		},
		"failures count in a row": {
			refuses: func(at time.Duration) bool { return at > time.Second && at/time.Second%3 != 0 },
			want:    []turn{{0, true}},
			checks:  120,
		},
		"an early failure is asked about often": {
			refuses: func(at time.Duration) bool { return between(10*time.Second, at, 12500*time.Millisecond) },
			want:    []turn{{0, true}, {12 * time.Second, false}, {12500 * time.Millisecond, true}},
			checks:  13 + 4 + 108,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, checks := time.Now(), 0
				p := &probe{
					targets: []netip.AddrPort{netip.MustParseAddrPort("127.244.0.1:8080")},
					sockets: unknown,
					dial: func(context.Context, string, string) (net.Conn, error) {
						checks++
						if tt.refuses(time.Since(start)) {
							return nil, errors.New("connection refused")
						}
						conn, _ := net.Pipe()
						return conn, nil
					},
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute-time.Millisecond)
				defer cancel()
				var got []turn
				p.run(ctx, func(err error) { got = append(got, turn{time.Since(start), err == nil}) })
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
				if checks != tt.checks {
					t.Errorf("%d checks, want %d", checks, tt.checks)
				}
			})
		})
	}
}

// TestProbeLearns finds out at which ports a process listens, and has it ready
// by that.
func TestProbeLearns(t *testing.T) {
	tests := map[string]struct {
		listens func(at time.Duration) []int32
		want    []turn
	}{
		"listens after a while": {
			listens: func(at time.Duration) []int32 { return []int32{80}[:min(1, at/(2*time.Second))] },
			want:    []turn{{2 * time.Second, true}},
		},
		"never listens": {
			listens: func(time.Duration) []int32 { return nil },
			want:    []turn{{10 * time.Second, true}},
		},
		"listens late": {
			listens: func(at time.Duration) []int32 { return []int32{80}[:min(1, at/(20*time.Second))] },
			want:    []turn{{10 * time.Second, true}, {20 * time.Second, true}},
		},
		"listens at more and more": {
			listens: func(at time.Duration) []int32 { return []int32{80, 81}[:1+min(1, at/(20*time.Second))] },
			want:    []turn{{0, true}, {20 * time.Second, true}},
		},
		"ceases to": {
			listens: func(at time.Duration) []int32 { return []int32{80}[:1-min(1, at/(20*time.Second))] },
			want:    []turn{{0, true}, {22 * time.Second, false}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				dialled := make(map[string]bool)
				p := &probe{
					address: netip.MustParseAddr("127.244.0.1"), sockets: unknown,
					dial: func(_ context.Context, _, address string) (net.Conn, error) {
						dialled[address] = true
						conn, _ := net.Pipe()
						return conn, nil
					},
					learn: func() (ports []corev1.ContainerPort, err error) {
						for _, number := range tt.listens(time.Since(start)) {
							ports = append(ports, corev1.ContainerPort{ContainerPort: number, Protocol: corev1.ProtocolTCP})
						}
						return ports, nil
					},
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var got []turn
				p.run(ctx, func(err error) { got = append(got, turn{time.Since(start), err == nil}) })
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
				for _, number := range tt.listens(30 * time.Second) {
					if address := fmt.Sprintf("127.244.0.1:%d", number); !dialled[address] {
						t.Errorf("%s was not tried", address)
					}
				}
			})
		})
	}
}

// unknown is for a system that does not tell who listens.
func unknown(netip.AddrPort) (listening, error) { return listening{}, errors.ErrUnsupported }

// A process is ready when it listens on every one of its ports.
func TestProbeEveryPort(t *testing.T) {
	open := map[string]bool{"127.244.0.1:80": true}
	p := &probe{
		targets: []netip.AddrPort{netip.MustParseAddrPort("127.244.0.1:80"), netip.MustParseAddrPort("127.244.0.1:81")},
		sockets: unknown,
		dial: func(_ context.Context, _, address string) (net.Conn, error) {
			if !open[address] {
				return nil, errors.New("connection refused")
			}
			conn, _ := net.Pipe()
			return conn, nil
		},
	}
	if p.check(t.Context()) == nil {
		t.Error("ready with one of two ports open")
	}
	open["127.244.0.1:81"] = true
	if err := p.check(t.Context()); err != nil {
		t.Errorf("not ready with both ports open: %v", err)
	}
}

// A check that hangs counts as failed after its time, and does not hold run up
// when it is to end.
func TestProbeHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &probe{
			targets: []netip.AddrPort{netip.MustParseAddrPort("127.244.0.1:80")},
			dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
		}
		start := time.Now()
		if err := p.check(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != probeTimeout {
			t.Errorf("check ended with %v after %v, want a timeout after %v", err, time.Since(start), probeTimeout)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(300*time.Millisecond, cancel)
		start = time.Now()
		p.run(ctx, func(error) { t.Error("reported") })
		if took := time.Since(start); took != 300*time.Millisecond {
			t.Errorf("run ended %v after its start, want 300ms", took)
		}
	})
}
