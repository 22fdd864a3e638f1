//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// A way is how a program comes to the backends.
type way struct {
	name string
	run  func(m mode, take time.Duration) (sample, error)
}

var (
	wayNames  = []string{"direct", "exec", "proxy", "dnat"}
	execModes = []string{"request-1", "connection", "udp", "start"}
)

// What counts is what all that take part cost together: usher exec is one of
// them, and who else pays for a connection is not the same everywhere.
var (
	execColumns = []figure{rate, cpu, p50, p99}
	execRatios  = []figure{rate, cpu}
	startMode   = mode{
		name: "start", what: "a program that does nothing, begun and ended", unit: "program",
		columns: []figure{p50, p99}, ratios: []figure{p50},
	}
)

// driveExec measures programs under usher exec beside those that reach backends
// in other ways. In every round each way has its turn.
func driveExec(o options) error {
	if err := settle(); err != nil {
		return err
	}
	backends, err := startChild("backend", []string{"GOMAXPROCS=1"}, "/proc/self/exe", "backend")
	if err != nil {
		return err
	}
	defer backends.stop()
	program, err := filepath.Abs(o.usher)
	if err != nil {
		return err
	}
	daemon, server, err := launchUsher(program)
	if err != nil {
		return err
	}
	defer daemon.stop()
	ways, stop, err := execWays(program, server)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Printf("Rounds: %d, of %s each. CPU is that of all who take part, in µs a unit. Those of exec to the right are divided by the others': median [range].\n", o.rounds, o.take)
	for _, name := range o.modes {
		if name == startMode.name {
			err = measureWays(o, startMode, startWays(program, server))
		} else {
			var m mode
			if m, err = modeNamed(name); err == nil {
				m.columns, m.ratios = execColumns, execRatios
				err = measureWays(o, m, ways)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// measureWays gives each way its turn in every round, first another one in each.
func measureWays(o options, m mode, ways []way) error {
	var all []sample
	for round := range o.rounds {
		for i := range ways {
			w := ways[(i+round)%len(ways)]
			time.Sleep(100 * time.Millisecond) // what the turn before left is closed by then
			s, err := w.run(m, o.take)
			if err != nil {
				return fmt.Errorf("%s by %s in round %d: %w", m.name, w.name, round, err)
			}
			s.Mode, s.Peer, s.Round = m.name, w.name, round
			all = append(all, s)
		}
	}
	return printTable(os.Stdout, m, all, wayNames, "exec")
}

// execWays returns the ways that there are, and what ends them.
func execWays(program, server string) (ways []way, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	plainly := func(args []string) *exec.Cmd { return exec.Command(self, args...) }
	under := func(args []string) *exec.Cmd { return usherExec(program, server, slices.Insert(args, 0, self)...) }
	to := func(name string, command func([]string) *exec.Cmd, address func(port) netip.AddrPort) {
		ways = append(ways, way{name, func(m mode, take time.Duration) (sample, error) {
			return runLoad(command(load{m.name, address(portNamed(m.port)), take, root}.args()))
		}})
	}
	to("direct", plainly, func(p port) netip.AddrPort { return netip.AddrPortFrom(backendHosts[0], p.backend) })
	to("exec", under, func(p port) netip.AddrPort { return netip.AddrPortFrom(clusterIP, p.frontend) })
	to("proxy", plainly, func(p port) netip.AddrPort { return netip.AddrPortFrom(usherHost, p.frontend) })
	w, err := startWorld()
	if errors.Is(err, errAbsent) {
		fmt.Fprintf(os.Stderr, "bench: SKIPPED dnat: %v\n", err)
		return ways, func() {}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return append(ways, way{"dnat", func(m mode, take time.Duration) (sample, error) {
		return w.run(load{m.name, netip.AddrPortFrom(clusterIP, portNamed(m.port).frontend), take, root})
	}}), w.stop, nil
}

func usherExec(program, server string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, append([]string{"exec", "--mode", "direct", "--"}, args...)...)
	cmd.Env = append(os.Environ(), "USHER_SERVER="+server)
	return cmd
}

// startWays begin and end a program for as long as a turn takes.
func startWays(program, server string) []way {
	again := func(command func() *exec.Cmd) func(mode, time.Duration) (sample, error) {
		return func(_ mode, take time.Duration) (sample, error) {
			m := newMeter(take, nil)
			for m.tick() {
				begun := time.Now()
				if out, err := command().CombinedOutput(); err != nil {
					return sample{}, fmt.Errorf("%w: %s", err, out)
				}
				m.done(begun)
			}
			s, err := m.sample()
			s.Others = 0 // nor is what has ended anybody's
			return s, err
		}
	}
	return []way{
		{"direct", again(func() *exec.Cmd { return exec.Command("true") })},
		{"exec", again(func() *exec.Cmd { return usherExec(program, server, "true") })},
	}
}
