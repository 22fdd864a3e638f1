//go:build !linux

package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

var errRoute = fmt.Errorf("make a route for ClusterIPs: only Linux can: %w", errors.ErrUnsupported)

func (r FixedRoute) String() string        { return r.Prefix.String() }
func (r FixedRoute) Find() (string, error) { return "", errRoute }
func (r FixedRoute) Add() error            { return errRoute }
func (r FixedRoute) Remove() error         { return errRoute }

// Overlap returns an *OverlapError if an interface has an address of prefix.
// Routes are not looked at.
func Overlap(prefix netip.Prefix) error {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	var reached []reach
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			reached = append(reached, reach{p.Masked(), "the address " + p.String()})
		}
	}
	return checkOverlap(prefix, reached)
}

// Leaves needs Linux. The error wraps errors.ErrUnsupported.
func Leaves(netip.Addr) (string, error) { return "", errRoute }

// LeftBehind returns nothing: there are no routes of ours.
func LeftBehind() ([]netip.Prefix, error) { return nil, nil }
