package proxy

import (
	"net"
	"slices"
	"testing"
)

// TestLoopsShare checks that no loop comes to have most of the connections,
// and that what a loop counts is what it has.
func TestLoopsShare(t *testing.T) { overEngine(t, "loop", testLoopsShare) }

func testLoopsShare(t *testing.T, start starter) {
	h := start(t, Limits{})
	loops := h.proxy.engine.(*loops).all
	if len(loops) < 2 {
		t.Skip("SKIPPED: there is one core, and one loop")
	}
	vip := freePort(t, "127.96.0.5")
	h.serve(vip, tcp, ends(serveTCP(t, echo))...)
	var clients []*net.TCPConn
	for range 32 * len(loops) {
		c := dialTCP(t, vip)
		if err := exchangeTCP(c, "x"); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	have := func() []int64 {
		var list []int64
		for _, l := range loops {
			list = append(list, l.load.Load())
		}
		return list
	}
	if got := have(); slices.Max(got)-slices.Min(got) > sharedSlack+slices.Max(got)/sharedPart {
		t.Errorf("the loops have %d connections", got)
	}
	for _, c := range clients {
		c.Close()
	}
	waitFor(t, "the end of all", func() bool { return slices.Max(have()) == 0 && slices.Min(have()) == 0 })
}
