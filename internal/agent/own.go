package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// A foreignError says that what answers at an address is not the process of its
// Pod: a server on every address of the machine answers on that of every Pod.
type foreignError struct{ target netip.AddrPort }

func (e foreignError) Error() string {
	return fmt.Sprintf("something else answers at %s (a server that listens on every address?)", e.target)
}

// listening is who answers at an address, by the inodes of the sockets.
type listening struct {
	inodes []uint64
	exact  bool // they are bound to the address itself, not to every one
}

// A claim is what is known of who answers at a target.
type claim struct {
	taken  bool     // somebody answered before the process was started, and has not refused since
	others []uint64 // the sockets of who answered then

	owned    []uint64 // that were found to be the replica's last
	denied   []uint64 // that were found to be somebody else's last
	deniedAt time.Time
}

// before finds out who answers before the process is started, and returns the
// targets where somebody does.
func (p *probe) before(ctx context.Context) []netip.AddrPort {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var taken []netip.AddrPort
	for _, target := range p.targets {
		conn, err := p.dial(ctx, "tcp", p.real(target).String())
		if err != nil {
			continue
		}
		conn.Close()
		c := p.claim(target)
		c.taken = true
		if s, err := p.sockets(p.real(target)); err == nil {
			c.others = s.inodes
		}
		taken = append(taken, target)
	}
	return taken
}

// claim returns the claim to a target.
func (p *probe) claim(target netip.AddrPort) *claim {
	if p.claims[target] == nil {
		if p.claims == nil {
			p.claims = make(map[netip.AddrPort]*claim)
		}
		p.claims[target] = new(claim)
	}
	return p.claims[target]
}

// own reports whether what has just answered at target is the replica's. A
// socket on the Pod's own address is, unless it is older than the process:
// nobody else has been told that address, and the one that listens may be no
// child of the process, as with containers. One on every address is if a
// process of the replica has it. Where that cannot be found out, whoever
// answers is taken for the replica, unless somebody did from the start.
func (p *probe) own(target netip.AddrPort) bool {
	c := p.claim(target)
	s, err := p.sockets(p.real(target))
	if err != nil || len(s.inodes) == 0 {
		return !c.taken
	}
	inodes := slices.DeleteFunc(s.inodes, func(inode uint64) bool { return slices.Contains(c.others, inode) })
	switch {
	case len(inodes) == 0:
		return false
	case s.exact || slices.Equal(inodes, c.owned):
		return true
	case slices.Equal(inodes, c.denied) && time.Since(c.deniedAt) < probePeriod:
		return false // the answer is dear, and will be the same
	}
	if owned, known := p.owns(inodes); known && !owned {
		c.denied, c.deniedAt = inodes, time.Now()
		return false
	}
	c.owned = inodes
	return true
}
