package vip

import (
	"fmt"
	"net/netip"
)

// PortOffset is how much higher than a port is the one that takes its place where
// it may not be opened.
const PortOffset = 8000

// A portRule says which ports this process may open: those from first on.
// Opening others needs a privilege that it does not have.
type portRule struct {
	first uint16
	lift  string // how to lift the limit
}

// open returns the port to open for a port of a Service.
func (r portRule) open(port uint16) uint16 {
	if port >= r.first || port+PortOffset < port {
		return port
	}
	return port + PortOffset
}

// String says what the rule means, as part of a sentence.
func (r portRule) String() string {
	if r.first <= 1 {
		return "every port is allowed"
	}
	return fmt.Sprintf("ports under %d are opened %d higher, 80 as 8080, until %s", r.first, PortOffset, r.lift)
}

// FirstPort returns the first port that this process may open, or 0 if there is
// no limit.
func FirstPort() uint16 { return probePorts(netip.AddrFrom4([4]byte{127, 0, 0, 1})).first }
