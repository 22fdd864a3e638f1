//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// A load is one turn that a process of its own makes: what is measured then is
// that process, under usher exec too.
type load struct {
	mode string
	to   netip.AddrPort
	take time.Duration
	root int // of the processes whose CPU counts: all that take part
}

// args are the command line that makes it.
func (l load) args() []string {
	return []string{"load", l.mode, l.to.String(), l.take.String(), strconv.Itoa(l.root)}
}

// makeLoad makes the load that a command line asks for, and prints what it
// showed as JSON.
func makeLoad(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("load %q: want a mode, an address, a time and a process", args)
	}
	m, err := modeNamed(args[0])
	if err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return err
	}
	take, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	if root, err = strconv.Atoi(args[3]); err != nil {
		return err
	}
	if _, err := precise(); err != nil {
		return err
	}
	s, err := m.run(turn{peer: &peer{at: to, root: root}, take: take}, portNamed(m.port))
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

func modeNamed(name string) (mode, error) {
	for _, m := range modes {
		if m.name == name {
			return m, nil
		}
	}
	return mode{}, fmt.Errorf("unknown mode %q", name)
}

// runLoad runs a command that makes a load, and returns what that showed.
func runLoad(cmd *exec.Cmd) (s sample, err error) {
	var words strings.Builder
	cmd.Stderr = &words
	out, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("make the load: %w: %s", err, strings.TrimSpace(words.String()))
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("read what the load showed: %w", err)
	}
	return s, nil
}
