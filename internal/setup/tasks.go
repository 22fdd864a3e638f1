package setup

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/internal/vip"
)

// FirstPort is the port from which on everybody may open ports once Ports is
// done: that of nameservers is the first that anybody misses.
const FirstPort = 53

const portSysctl = "net.ipv4.ip_unprivileged_port_start"

const note = "# Written by usher setup; usher teardown removes it.\n"

// Ports lets everybody open ports from FirstPort on, so that the daemon of an
// ordinary user has Services at their own ports.
func Ports() Task {
	return Task{
		Name: "ports",
		Why:  fmt.Sprintf("ports from %d on may be opened without a privilege, so that Services keep their ports on loopback", FirstPort),
		plan: func(_ context.Context, m *Machine) ([]Change, error) {
			value, err := linuxOnly(m, Place{kindSysctl, portSysctl})
			if err != nil {
				return nil, err
			}
			first, err := strconv.Atoi(*value)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", portSysctl, err)
			}
			if first <= FirstPort {
				return nil, nil
			}
			want := strconv.Itoa(FirstPort)
			file := Place{kindFile, "/etc/sysctl.d/60-usher.conf"}
			changes, err := m.fileChanges(file.Name, note+portSysctl+" = "+want+"\n", nil)
			return append(changes, Change{Place: Place{kindSysctl, portSysctl}, Before: value, After: &want}), err
		},
	}
}

// linuxOnly reads a place that only Linux has.
func linuxOnly(m *Machine, p Place) (*string, error) {
	if m.OS != "linux" {
		return nil, fmt.Errorf("only Linux has %s: %w", p, errors.ErrUnsupported)
	}
	return p.in(m).read()
}

// fileChanges returns the changes that make a file, with the directories that it
// is in, unless it is there with just that content.
func (m *Machine) fileChanges(path, content string, then [][]string) ([]Change, error) {
	file := Place{kindFile, path}
	before, err := file.in(m).read()
	if err != nil || same(before, &content) {
		return nil, err
	}
	changes := []Change{{Place: file, Before: before, After: &content, Then: then}}
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		p := Place{kindDirectory, dir}
		there, err := p.in(m).read()
		if err != nil {
			return nil, err
		}
		if there != nil {
			break
		}
		changes = slices.Insert(changes, 0, Change{Place: p, After: new(string)})
	}
	return changes, nil
}

// Route makes the ranges of ClusterIPs local, so that a daemon without any
// privilege has the anyip view. With blackhole they lead nowhere instead.
func Route(ranges []netip.Prefix, blackhole bool) Task {
	t := Task{Name: "route", Why: "the ClusterIPs are this machine's own, so that usher serves them without a privilege"}
	kind := kindRoute
	if blackhole {
		kind, t.Why = kindBlackhole, "a ClusterIP that nobody translates leads nowhere, and not to a stranger who has that address"
	}
	t.Why += "; until the machine starts anew"
	t.plan = func(_ context.Context, m *Machine) ([]Change, error) {
		var changes []Change
		for _, prefix := range ranges {
			p := Place{kind, prefix.String()}
			before, err := linuxOnly(m, p)
			if err != nil {
				return nil, err
			}
			if before != nil {
				continue
			}
			if err := vip.Overlap(prefix); err != nil {
				return nil, err
			}
			after := vip.FixedRoute{Prefix: prefix, Blackhole: blackhole}.String()
			changes = append(changes, Change{Place: p, After: &after})
		}
		return changes, nil
	}
	return t
}

// Names say who knows the names of Services.
type Names struct {
	Domain     string         // as cluster.local
	Nameserver netip.AddrPort // usher's

	// Canary is a name of the domain, and Address what the nameserver answers.
	Canary  string
	Address netip.Addr
}

// DNS sends the names of Services to usher's nameserver, and all others where
// they went before. Afterwards the canary has to resolve.
func DNS(n Names) Task {
	return Task{
		Name: "dns",
		Why:  fmt.Sprintf("names below %s resolve in every program, by usher's nameserver at %s", n.Domain, n.Nameserver),
		plan: func(ctx context.Context, m *Machine) ([]Change, error) {
			if m.OS == "darwin" {
				return m.fileChanges("/etc/resolver/"+n.Domain,
					fmt.Sprintf("%snameserver %s\nport %d\n", note, n.Nameserver.Addr(), n.Nameserver.Port()),
					[][]string{{"dscacheutil", "-flushcache"}, {"killall", "-HUP", "mDNSResponder"}})
			}
			if err := m.delegates(ctx); err != nil {
				return nil, err
			}
			return m.fileChanges("/etc/systemd/dns-delegate.d/usher.dns-delegate",
				fmt.Sprintf("%s[Delegate]\nDNS=%s\nDomains=~%s\n", note, n.Nameserver, n.Domain),
				[][]string{{"systemctl", "reload-or-restart", "systemd-resolved"}})
		},
		verify: n.verify,
	}
}

// delegatesSince is the systemd that has systemd.dns-delegate(5). Before it a
// nameserver for one domain alone was one of a link, and an interface that leads
// nowhere does not count as one. One without a link is asked for other names
// too, and usher's would send them back to where they come from.
const delegatesSince = 258

// delegates returns why systemd-resolved cannot send one domain elsewhere.
func (m *Machine) delegates(ctx context.Context) error {
	const otherwise = "\n  programs under usher exec resolve the names without it"
	if _, err := os.Stat(filepath.Join(m.Root, "/run/systemd/resolve")); m.OS != "linux" || err != nil {
		return errors.New("systemd-resolved does not run here, and nobody else can send one domain elsewhere" + otherwise)
	}
	out, err := m.Run(ctx, []string{"resolvectl", "--version"})
	if err != nil {
		return fmt.Errorf("ask resolvectl for its version: %w", err)
	}
	fields := strings.Fields(out)
	if len(fields) < 2 {
		return fmt.Errorf("ask resolvectl for its version: it says %q", strings.TrimSpace(out))
	}
	var number int
	if _, err := fmt.Sscanf(fields[1], "%d", &number); err != nil || number < delegatesSince { // 258.1, or 258~rc1
		return fmt.Errorf("systemd %s is here, and %d is the first that can give usher one domain and no other names%s",
			fields[1], delegatesSince, otherwise)
	}
	return nil
}

// patience is how long the resolver of the machine has to learn of a change.
const patience = 10 * time.Second

// verify returns why the canary does not resolve as the nameserver has it.
func (n Names) verify(ctx context.Context, m *Machine) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(patience / 50)
	defer again.Stop()
	for {
		addrs, err := m.Lookup(ctx, n.Canary)
		if err == nil && slices.Contains(addrs, n.Address) {
			m.say("# %s resolves to %s", n.Canary, n.Address)
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it resolves to %v, not %s", addrs, n.Address)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("look up %s: %w", n.Canary, err)
		}
	}
}
