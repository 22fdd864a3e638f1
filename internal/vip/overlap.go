package vip

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A reach is a range of addresses that the system reaches in some way already.
type reach struct {
	prefix netip.Prefix
	how    string // as `ip route` would put it
}

// proposals are ranges to use for Services. After Kubernetes' usual one there
// is that of RFC 2544, for benchmarks, and a part of that of RFC 6598, for
// carriers: nobody should have either at home or at work.
var proposals = []netip.Prefix{
	netip.MustParsePrefix("10.96.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/16"),
	netip.MustParsePrefix("100.96.0.0/16"),
}

// An OverlapError says that a range of ClusterIPs is in use for something
// else. Making it local would silently cut that off.
type OverlapError struct {
	Prefix netip.Prefix
	With   []string     // the routes and addresses in the way
	Free   netip.Prefix // a range that is free; not valid: none of those tried
}

func (e *OverlapError) Error() string {
	text := fmt.Sprintf("%s overlaps with %s: set serviceCIDR to another range", e.Prefix, strings.Join(e.With, ", "))
	if e.Free.IsValid() {
		text += fmt.Sprintf("; %s is free", e.Free)
	}
	return text
}

// checkOverlap returns an *OverlapError if prefix is, in part or as a whole,
// in a range that is reached. A default route is not in the way, nor are its
// halves, by which VPNs replace it.
func checkOverlap(prefix netip.Prefix, reached []reach) error {
	inTheWay := overlapping(prefix, reached)
	if len(inTheWay) == 0 {
		return nil
	}
	err := &OverlapError{Prefix: prefix}
	for _, r := range inTheWay {
		err.With = append(err.With, r.how)
	}
	for _, p := range proposals {
		if p.Addr().Is4() == prefix.Addr().Is4() && len(overlapping(p, reached)) == 0 {
			err.Free = p
			break
		}
	}
	return err
}

// overlapping returns the ranges that overlap with prefix, the largest ones
// first, without those that are part of one before.
func overlapping(prefix netip.Prefix, reached []reach) []reach {
	var list []reach
	for _, r := range slices.SortedStableFunc(slices.Values(reached), func(a, b reach) int {
		return cmp.Compare(a.prefix.Bits(), b.prefix.Bits())
	}) {
		covered := slices.ContainsFunc(list, func(l reach) bool { return l.prefix.Overlaps(r.prefix) })
		if r.prefix.Bits() > 1 && r.prefix.Overlaps(prefix) && !covered {
			list = append(list, r)
		}
	}
	return list
}
