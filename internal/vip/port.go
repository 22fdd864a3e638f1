package vip

import "fmt"

// portOffset is where a port goes that may not be opened.
const portOffset = 8000

// A portRule says which ports this process may open: those from first on.
// Opening others needs a privilege that it does not have.
type portRule struct {
	first uint16
	lift  string // how to lift the limit
}

// open returns the port to open for a port of a Service.
func (r portRule) open(port uint16) uint16 {
	if port >= r.first || port+portOffset < port {
		return port
	}
	return port + portOffset
}

// String says what the rule means, as part of a sentence.
func (r portRule) String() string {
	if r.first <= 1 {
		return "every port is allowed"
	}
	return fmt.Sprintf("ports under %d are opened %d higher, 80 as 8080, until %s", r.first, portOffset, r.lift)
}
