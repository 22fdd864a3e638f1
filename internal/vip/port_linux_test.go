package vip

import (
	"runtime"
	"testing"

	"usher/internal/nstest"
)

// TestLoopbackPorts checks the limit that the kernel has for this process.
func TestLoopbackPorts(t *testing.T) {
	if !nstest.In(t, 0) {
		return
	}
	setUp(t, "lo")
	rule := make(chan portRule)
	go func() {
		runtime.LockOSThread()
		rule <- probePorts(addr("127.96.0.1"))
		_ = dropCapabilities()
		rule <- probePorts(addr("127.96.0.1"))
	}()
	if got := (<-rule).first; got > 1 {
		t.Errorf("with CAP_NET_BIND_SERVICE ports are allowed from %d on", got)
	}
	if got := (<-rule).first; got != unprivilegedPortStart() || got != 1024 {
		t.Errorf("without capabilities ports are allowed from %d on, want 1024", got)
	}
}
