//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// A driver is a run: the peers that were started, and where results go.
type driver struct {
	options
	peers  []*peer
	sinks  *sinks
	out    *os.File
	failed int // turns
}

// drive measures everything that was asked for. A signal ends it as it stands:
// its children end with it, and the process outside removes the directory.
func drive(o options) error {
	if err := settle(); err != nil {
		return err
	}
	d := &driver{options: o}
	if o.output != "" {
		var err error
		if d.out, err = os.OpenFile(o.output, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
			return err
		}
		defer d.out.Close()
	}
	// One core is enough for the backends, and what a load finds elsewhere.
	backends, err := startChild("backend", []string{"GOMAXPROCS=1"}, "/proc/self/exe", "backend")
	if err != nil {
		return err
	}
	defer backends.stop()
	if d.sinks, err = openSinks(portNamed("flood")); err != nil {
		return err
	}
	defer d.stopPeers()
	if err := d.startPeers(); err != nil {
		return err
	}
	fmt.Printf("Rounds: %d, of %s each. CPU is the proxy's, in µs a unit. Usher's figures to the right are divided by the peer's: median [range].\n",
		o.rounds, o.take)
	for _, m := range modes {
		if !slices.Contains(o.modes, m.name) {
			continue
		}
		all, err := d.measure(m)
		if err != nil {
			return err
		}
		if err := printTable(os.Stdout, m, all, peerNames, "usher"); err != nil {
			return err
		}
	}
	if d.failed > 0 {
		return fmt.Errorf("%d turns failed", d.failed)
	}
	return nil
}

// startPeers starts what there is. Only the peers of others may be absent.
func (d *driver) startPeers() error {
	for _, name := range d.options.peers {
		p, err := newPeer(name, d.options)
		if errors.Is(err, errAbsent) {
			fmt.Fprintf(os.Stderr, "bench: SKIPPED %s: %v\n", name, err)
			continue
		}
		if err != nil {
			return err
		}
		if err := p.start(); err != nil {
			return err
		}
		d.peers = append(d.peers, p)
	}
	return nil
}

func (d *driver) stopPeers() {
	for _, p := range d.peers {
		p.stop()
	}
}

// measure gives each peer its turn in every round, first another one in each.
// A turn that fails is said and left out.
func (d *driver) measure(m mode) ([]sample, error) {
	var all []sample
	for round := range d.rounds {
		for i := range d.peers {
			p := d.peers[(i+round)%len(d.peers)]
			if !p.serves(m) {
				continue
			}
			s, err := d.turn(m, p)
			if err != nil {
				d.failed++
				fmt.Fprintf(os.Stderr, "bench: FAILED %s of %s in round %d: %v\n", m.name, p.name, round, err)
				continue
			}
			s.Mode, s.Peer, s.Round = m.name, p.name, round
			if err := d.record(s); err != nil {
				return nil, err
			}
			all = append(all, s)
		}
	}
	return all, nil
}

func (d *driver) turn(m mode, p *peer) (sample, error) {
	// What the turn before left is closed by then.
	time.Sleep(100 * time.Millisecond)
	restore, err := precise()
	if err != nil {
		return sample{}, err
	}
	defer restore()
	return m.run(turn{peer: p, take: d.take, sinks: d.sinks}, portNamed(m.port))
}

func (d *driver) record(s sample) error {
	if d.out == nil {
		return nil
	}
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = d.out.Write(append(line, '\n'))
	return err
}
