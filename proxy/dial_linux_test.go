package proxy

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/registry"
)

// TestLocalFailureWaitsForOthers checks that a dial that fails for a lack of
// descriptors does not end one that is under way.
func TestLocalFailureWaitsForOthers(t *testing.T) { eachEngine(t, testLocalFailureWaitsForOthers) }

func testLocalFailureWaitsForOthers(t *testing.T, start starter) {
	h := start(t, Limits{Hedge: time.Second})
	vip := freePort(t, "127.96.0.5")
	slow := silent(t)
	other, dialled := named(t, "other")
	backends := ends(slow, other)
	h.serve(vip, tcp, backends...)
	if slices.IndexFunc(h.proxy.frontends[registry.FrontendKey{Address: vip.Addr(), Port: vip.Port(), Protocol: tcp}].now.Load().Backends,
		func(b registry.Backend) bool { return b.Address == slow }) == 1 {
		ask(vip) // the turn of the other one
	}
	before := dialled.Load()
	client := dialTCP(t, vip)
	waitFor(t, "the slow backend to be dialled", func() bool {
		table, err := os.ReadFile("/proc/self/net/tcp")
		return err != nil || strings.Contains(string(table), fmt.Sprintf(" 0100007F:%04X 02 ", slow.Port())) // 02: SYN_SENT
	})
	limit := limitDescriptors(t)
	limit(0)
	waitFor(t, "a dial to fail", func() bool { return h.statsOf(vip).DialErrors == 1 })
	limit(1000)
	client.SetReadDeadline(time.Now().Add(600 * time.Millisecond))
	if _, err := client.Read(make([]byte, 1)); !os.IsTimeout(err) || dialled.Load() != before {
		t.Errorf("read %v, and the other backend was dialled %d times; want the slow one to be waited for", err, dialled.Load()-before)
	}
}
