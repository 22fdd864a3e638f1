package registry

import (
	"hash/fnv"
	"iter"
	"math/big"
	"net/netip"
)

// An IPRange is a service CIDR, or another range that addresses are given
// from. Addresses are numbered by their offset from the network address.
type IPRange struct {
	prefix netip.Prefix
	last   uint64 // offset of the last usable address
	static uint64 // offset of the last address of the static band; 0: there is none
}

// DNSOffset is where in the service CIDR the nameserver is, by convention.
const DNSOffset = 10

// NewIPRange returns the range of prefix with the bands of KEP-3070: the
// lowest min(max(16, size/16), 256) addresses are for people who ask for one,
// and given to others only when the rest is full.
func NewIPRange(prefix netip.Prefix) IPRange {
	prefix = prefix.Masked()
	hostBits := prefix.Addr().BitLen() - prefix.Bits()
	size := uint64(1) << min(hostBits, 62) // of a huge range, the part that is used
	r := IPRange{prefix: prefix, last: size - 1}
	if prefix.Addr().Is4() && r.last > 0 {
		r.last-- // the broadcast address
	}
	r.static = staticBand(size, 16, 256)
	return r
}

// Prefix returns the range as a CIDR.
func (r IPRange) Prefix() netip.Prefix { return r.prefix }

// Size returns how many addresses may be given.
func (r IPRange) Size() uint64 { return r.last }

// Contains reports whether addr is an address of the range that may be given:
// not the network address and, in IPv4, not the broadcast address.
func (r IPRange) Contains(addr netip.Addr) bool {
	if !r.prefix.Contains(addr) {
		return false
	}
	base, n := toInt(r.prefix.Addr()), toInt(addr)
	n.Sub(n, base)
	return n.IsUint64() && n.Uint64() >= 1 && n.Uint64() <= r.last
}

// At returns the address at offset, which must be at most that of the last.
func (r IPRange) At(offset uint64) netip.Addr {
	n := toInt(r.prefix.Addr())
	n.Add(n, new(big.Int).SetUint64(offset))
	if r.prefix.Addr().Is4() {
		return netip.AddrFrom4([4]byte(n.FillBytes(make([]byte, 4))))
	}
	return netip.AddrFrom16([16]byte(n.FillBytes(make([]byte, 16))))
}

// Candidates returns every address of the range once, in the order in which
// to try them for the owner: the dynamic band from a place that depends on
// the owner alone, so that the same manifest gets the same address on every
// machine where that is free, and then the static band.
func (r IPRange) Candidates(owner string) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for n := range candidates(owner, r.last, r.static) {
			if !yield(r.At(n + 1)) {
				return
			}
		}
	}
}

// staticBand returns the size of the lower band of a range: a share of it, but at
// least 16 and at most so many; none of a range of 16 or less.
func staticBand(size, share, most uint64) uint64 {
	if size <= 16 {
		return 0
	}
	return min(max(16, size/share), most)
}

// candidates returns the numbers below size in the order in which to try them:
// those above the static band from a place that depends on the owner, and then
// the band.
func candidates(owner string, size, static uint64) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		h := fnv.New64a()
		h.Write([]byte(owner))
		start := h.Sum64()
		for _, band := range [...]struct{ first, size uint64 }{{static, size - static}, {0, static}} {
			for i := range band.size {
				if !yield(band.first + (start+i)%band.size) {
					return
				}
			}
		}
	}
}

func toInt(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }
