package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestProbeOwn checks whose answer counts, where target answers at each step.
func TestProbeOwn(t *testing.T) {
	target := netip.MustParseAddrPort("127.244.0.1:8080")
	on := func(exact bool, inodes ...uint64) *listening { return &listening{exact: exact, inodes: inodes} }
	refuses, hidden := on(false), (*listening)(nil) // nobody listens; nobody says who does
	tests := map[string]struct {
		before  *listening
		steps   []*listening
		owned   []uint64 // the sockets of the replica
		unknown bool     // whether it is the replica's cannot be found out
		want    []bool
	}{
		"its own address":                       {before: refuses, steps: []*listening{refuses, on(true, 1)}, want: []bool{false, true}},
		"its own address, taken from the start": {before: on(true, 1), steps: []*listening{on(true, 1), refuses, on(true, 2)}, want: []bool{false, false, true}},
		"every address, by the replica":         {before: refuses, steps: []*listening{on(false, 1)}, owned: []uint64{1}, want: []bool{true}},
		"every address, by another":             {before: refuses, steps: []*listening{on(false, 1), on(false, 2)}, owned: []uint64{2}, want: []bool{false, true}},
		"every address, by another from the start": {before: on(false, 1), steps: []*listening{on(false, 1), on(false, 1, 2)}, owned: []uint64{2},
			want: []bool{false, true}},
		"every address, by a setuid program":             {before: refuses, steps: []*listening{on(false, 1)}, unknown: true, want: []bool{true}},
		"every address, by another, by a setuid program": {before: on(false, 1), steps: []*listening{on(false, 1)}, unknown: true, want: []bool{false}},
		"nobody says who":                                {before: refuses, steps: []*listening{hidden}, want: []bool{true}},
		"nobody says who, from the start":                {before: hidden, steps: []*listening{hidden, refuses, hidden}, want: []bool{false, false, true}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			now := tt.before
			p := &probe{
				targets: []netip.AddrPort{target},
				dial: func(context.Context, string, string) (net.Conn, error) {
					if now == refuses {
						return nil, errors.New("connection refused")
					}
					conn, _ := net.Pipe()
					return conn, nil
				},
				sockets: func(netip.AddrPort) (listening, error) {
					if now == hidden {
						return listening{}, errors.ErrUnsupported
					}
					return listening{exact: now.exact, inodes: slices.Clone(now.inodes)}, nil
				},
				owns: func(inodes []uint64) (bool, bool) {
					owned := slices.ContainsFunc(inodes, func(i uint64) bool { return slices.Contains(tt.owned, i) })
					return owned, !tt.unknown
				},
			}
			if taken := p.before(t.Context()); len(taken) > 0 != (tt.before != refuses) {
				t.Errorf("before the start: taken %v", taken)
			}
			var got []bool
			for _, now = range tt.steps {
				err := p.check(t.Context())
				got = append(got, err == nil)
				if foreign := p.foreign.Load() != nil; foreign != (err != nil && now != refuses) {
					t.Errorf("%v, somebody else: %t", err, foreign)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ready (-want +got):\n%s", diff)
			}
		})
	}
}

// Whose a socket is is asked once when it is the replica's, and once a period
// when it is not.
func TestProbeOwnCost(t *testing.T) {
	for owned, want := range map[bool]int{true: 1, false: 10} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			p := &probe{
				targets: []netip.AddrPort{netip.MustParseAddrPort("127.244.0.1:8080")},
				dial: func(context.Context, string, string) (net.Conn, error) {
					conn, _ := net.Pipe()
					return conn, nil
				},
				sockets: func(netip.AddrPort) (listening, error) { return listening{inodes: []uint64{1}}, nil },
				owns: func([]uint64) (bool, bool) {
					asked++
					return owned, true
				},
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*probePeriod-time.Millisecond)
			defer cancel()
			p.run(ctx, func(error) {})
			if asked != want {
				t.Errorf("asked %d times about a socket that is owned: %t, want %d", asked, owned, want)
			}
		})
	}
}
