package balancer

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"usher/registry"
)

// maglevSize is the size of the tables, a prime. With up to 655 Backends of one
// weight the busiest has 1 % more of the table than the idlest, as in the paper
// (Maglev: A Fast and Reliable Software Network Load Balancer, 2016, 3.4).
const maglevSize = 65537

// maglevTable lets the Backends take turns at taking what is free in a table,
// each in an order of its own that follows from its address. So every node has
// the same table, and one without a Backend is nearly that with it. A Backend
// of less weight leaves turns out.
func maglevTable(backends []registry.Backend) []int32 {
	if len(backends) == 0 {
		return nil
	}
	type preference struct{ next, skip, weight, sum uint64 }
	preferences := make([]preference, len(backends))
	heaviest := uint64(0)
	for i := range backends {
		address := backends[i].Address
		ip := address.Addr().As16()
		sum := sha256.Sum256(binary.BigEndian.AppendUint16(ip[:], address.Port()))
		preferences[i] = preference{
			next:   binary.BigEndian.Uint64(sum[:8]) % maglevSize,
			skip:   binary.BigEndian.Uint64(sum[8:16])%(maglevSize-1) + 1,
			weight: weightOf(&backends[i]),
		}
		heaviest = max(heaviest, preferences[i].weight)
	}
	table := make([]int32, maglevSize)
	for i := range table {
		table[i] = -1
	}
	for taken := 0; ; {
		for i := range preferences {
			p := &preferences[i]
			if p.sum += p.weight; p.sum < heaviest {
				continue
			}
			p.sum -= heaviest
			for table[p.next] >= 0 {
				p.next = (p.next + p.skip) % maglevSize
			}
			table[p.next] = int32(i)
			if taken++; taken == maglevSize {
				return table
			}
		}
	}
}

// hashed returns the place of a client. One whose Backend is ejected goes where
// the table goes on, and the others stay.
func (l *list) hashed(client netip.Addr) int32 {
	ip := client.As16()
	n := mix(binary.BigEndian.Uint64(ip[:8]) ^ mix(binary.BigEndian.Uint64(ip[8:])))
	for slot := n % maglevSize; ; slot = (slot + 1) % maglevSize {
		if place := l.place[l.table[slot]]; int(place) < l.choosable {
			return place
		}
	}
}

// mix spreads the bits of n (the finalizer of splitmix64).
func mix(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}
