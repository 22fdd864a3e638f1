package vip

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Show makes the View show these ranges of ClusterIPs beside those that it was
// opened with, and no others. In the loopback View a further range is seen
// where its last 24 bits are: 10.97.x.y as 127.97.x.y, on every machine.
//
// The ranges that cannot be shown are returned with the reason, as from AnyIP
// and Loopback; the next call tries again. What is hidden is so at once, while
// listeners may be on its addresses yet: the caller calls release, once, when
// they are closed.
func (v *View) Show(more []netip.Prefix) (release func() error, failed map[netip.Prefix]error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var want []netip.Prefix
	shown, hidden := slices.Clone(*v.ranges.Load()), []twin(nil)
	failed = make(map[netip.Prefix]error)
	for _, prefix := range more {
		prefix = prefix.Masked()
		want = append(want, prefix)
		there := func(t twin) bool { return t.cluster == prefix || !t.added && within(prefix, t.cluster) }
		if slices.ContainsFunc(shown, there) {
			continue
		}
		t, err := v.extend(prefix, shown)
		if err != nil {
			failed[prefix] = err
			continue
		}
		t.added = true
		shown = append(shown, t)
	}
	shown = slices.DeleteFunc(shown, func(t twin) bool {
		gone := t.added && !slices.Contains(want, t.cluster)
		if gone {
			hidden = append(hidden, t)
		}
		return gone
	})
	v.ranges.Store(&shown)
	return func() error { return releaseAll(hidden) }, failed
}

// naturalTwin returns the loopback range that a further range is seen as. Nobody
// else may be seen there.
func naturalTwin(prefix netip.Prefix, shown []twin, reserved []netip.Prefix) (twin, error) {
	if !prefix.Addr().Is4() || prefix.Bits() < 8 {
		return twin{}, errors.New("loopback has room for 24 bits of IPv4")
	}
	a := prefix.Addr().As4()
	t := twin{cluster: prefix, local: netip.PrefixFrom(netip.AddrFrom4([4]byte{127, a[1], a[2], a[3]}), prefix.Bits())}
	if t.local.Contains(netip.AddrFrom4([4]byte{127, 0, 0, 1})) {
		return twin{}, fmt.Errorf("it would be seen as %s, and 127.0.0.1 has to stay the host's own", t.local)
	}
	for _, r := range reserved {
		if r.Overlaps(t.local) {
			return twin{}, fmt.Errorf("it would be seen as %s, and %s is in use", t.local, r)
		}
	}
	for _, other := range shown {
		if !other.local.Overlaps(t.local) {
			continue
		}
		// A part of the range, seen as the same addresses, is in nobody's way.
		if moved, ok := move(other.cluster.Addr(), prefix, t.local); !ok || moved != other.local.Addr() {
			return twin{}, fmt.Errorf("it would be seen as %s, where %s is", t.local, other.cluster)
		}
	}
	return t, nil
}

// within reports whether all of inner is in outer.
func within(inner, outer netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}
