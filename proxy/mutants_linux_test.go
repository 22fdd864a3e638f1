package proxy

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A mutant is the Proxy with one promise broken on purpose.
type mutant struct {
	promise  string
	file     string
	old, new string // the text there, which is unique, and what takes its place
	caught   string // the tests of which one must fail, as for go test -run
}

var mutants = []mutant{
	{
		"a reset stays a reset (loop)", "loop_conn_linux.go",
		"errno != unix.EPIPE && !s.fin && !s.ended", "false", "^TestReset$/^loop$",
	},
	{
		"a reset stays a reset (portable)", "pipe.go",
		"left, moved = now, time.Now()\n\t\t}\n\t}\n\treset(c)", "left, moved = now, time.Now()\n\t\t}\n\t}\n\tc.Close()", "^TestReset$/^portable$",
	},
	{
		"a reset that somebody else was told of stays one (loop)", "loop_pump_linux.go",
		"!s.fin && !s.shut && !s.gone && l.opts", "false && l.opts", "^TestErrorIsTakenElsewhere$/^loop$",
	},
	{
		"a reset that somebody else was told of stays one (portable)", "pipe.go",
		"return known && got == d.moved", "return false && known && got == d.moved", "^TestWasReset$",
	},
	{
		"what came before a reset is delivered (loop)", "loop_conn_linux.go",
		"if c.unsent == 0 {\n\t\tl.drained(c)", "if true {\n\t\tl.drained(c)", "^TestResetAfterSlowReaders$/^loop$",
	},
	{
		"what came before a reset is delivered (portable)", "pipe.go",
		"left > 0 && time.Since(moved) < flushIdle", "left > 1<<40 && time.Since(moved) < flushIdle", "^TestResetAfterSlowReaders$/^portable$",
	},
	{
		"a half close is kept (loop)", "loop_conn_linux.go",
		"case d.ended && d.pending == nil && d.inPipe == 0:", "default:", "^TestHalfClose$/^loop$",
	},
	{
		"a half close is kept (portable)", "pipe.go",
		"d.err = d.dst.CloseWrite()", "d.err = d.dst.Close()", "^TestHalfClose$/^portable$",
	},
	{
		"a refusal is not seen (loop)", "loop_dial_linux.go",
		"d := l.nextDial(c, 0)\n\tif d.attempt == 0 {\n\t\tl.unserved(c)\n\t\treturn\n\t}\n\tl.use", "d := dial{}\n\tif d.attempt == 0 {\n\t\tl.unserved(c)\n\t\treturn\n\t}\n\tl.use",
		"^TestRefusingBackendsAreNotSeen$/^loop$",
	},
	{
		"a refusal is not seen (portable)", "dial.go",
		"if (local || !start()) && len(running) == 0", "if len(running) == 0", "^TestRefusingBackendsAreNotSeen$/^portable$",
	},
	{
		"a silent Backend gets company (loop)", "loop_dial_linux.go",
		"c.beside[i] = l.nextDial(c, unix.EPOLLOUT)\n\t\t\treturn\n\t\t}\n\t}\n}", "return\n\t\t}\n\t}\n}", "^TestSilentBackendsCostLittle$/^loop$",
	},
	{
		"a silent Backend gets company (portable)", "dial.go",
		"if !local && start() {", "if false && start() {", "^TestSilentBackendsCostLittle$/^portable$",
	},
	{
		"a third Backend is dialled (loop)", "loop_dial_linux.go",
		"c.hedged < maxBeside &&", "false &&", "^TestThirdDial$/^loop$",
	},
	{
		"ports do not run out (loop)", "loop_dial_linux.go",
		"for i := range moreSources {", "for i := range 0 {", "^TestMoreSources$",
	},
	{
		"without Backends it refuses (loop)", "loop_accept_linux.go",
		"case pause:\n\t\treturn ln.pause()", "case pause:\n\t\treturn nil", "^TestNoBackendsIsRefused$/^loop$",
	},
	{
		"without Backends it refuses (portable)", "tcp.go",
		"if pause == l.paused || l.closed {", "if true {", "^TestNoBackendsIsRefused$/^portable$",
	},
	{
		"a connection to itself is refused (loop)", "loop_dial_linux.go",
		"if l.engine.own.contains(b.Address) {", "if false {", "^TestLoopIsLoggedOnce$/^loop$",
	},
	{
		"the excess is reset (loop)", "loop_accept_linux.go",
		"l.opts.resetOnClose(fd)\n\trawClose(fd)", "rawClose(fd)", "^TestExcessIsReset$/^loop$",
	},
	{
		"without a descriptor to accept it resets (loop)", "loops_linux.go",
		"e.noteLocal(errno)\n\te.spare.mu.Lock()", "return errno\n\te.spare.mu.Lock()", "^TestNoDescriptorToAccept$/^loop$",
	},
	{
		"an idle connection has two descriptors (loop)", "loop_pump_linux.go",
		"s.full = 0 // the next event chooses anew\n\t\tl.freePipe(s)", "s.full = bulkAfter", "^TestDescriptors$/^loop$",
	},
	{
		"bytes are spliced (loop)", "loop_pump_linux.go",
		"case s.pipe != nil || s.full >= bulkAfter:", "case s.pipe != nil:", "^TestBulkTakesAPipe$/^loop$",
	},
	{
		"flows of a Backend that is gone end (loop)", "loop_udp_linux.go",
		"for list.first != nil {", "for false {", "^TestFlows$/^loop$",
	},
	{
		"flows of a Backend that is gone end (portable)", "udp.go",
		"if f.Serving(fl.picked.backend().Address) == nil {", "if false {", "^TestFlows$/^portable$",
	},
	{
		"flows of a draining Backend go on (loop)", "../registry/frontend.go",
		"[...][]Backend{f.Backends, f.Draining}", "[...][]Backend{f.Backends}", "^TestFlowsOfDrainingBackends$/^loop$",
	},
	{
		"connections to a removed Backend end (loop)", "loop_cut_linux.go",
		"l.post(func() { l.cut(f) })", "_ = l", "^TestRemovedBackend$/^loop$",
	},
	{
		"connections to a removed Backend end (portable)", "cut.go",
		"for _, p := range pipes {\n\t\tp.cut()", "for range pipes {", "^TestRemovedBackend$/^portable$",
	},
	{
		"so does one that is made later (loop)", "loop_dial_linux.go",
		"if !c.keeps() {", "if false {", "^TestRemovedBeforeAnswer$/^loop$",
	},
	{
		"so does one that is made later (portable)", "portable.go",
		"p.cut() // the", "// the", "^TestRemovedBeforeAnswer$/^portable$",
	},
	{
		"what a removed Backend has sent is delivered (loop)", "loop_cut_linux.go",
		"rawShutdown(c.client.fd, unix.SHUT_RD)", "_ = unix.SHUT_RD\n\t\tl.close(c)\n\t\treturn", "^TestRemovedBackendIsReadOut$/^loop$",
	},
	{
		"to be closed is no reset (portable)", "pipe.go",
		"case !p.told.Load() && d.wasReset():", "case d.wasReset():", "^TestRemovedBackend$/^portable$",
	},
	{
		"a refused datagram is sent again (loop)", "loop_flow_linux.go",
		"rawSend(f.fd, f.last) // which may be empty", "_ = f.last", "^TestFlowMovesOn$/^loop$",
	},
	{
		"a refused datagram is sent again (portable)", "flow.go",
		"if f.last != nil {\n\t\tl.send(f)\n\t}", "_ = f.last", "^TestFlowMovesOn$/^portable$",
	},
	{
		"a forged client is dropped (loop)", "loop_flow_linux.go",
		"if client.port() == 0 || l.engine.own.contains(client.addrPort()) {", "if false {", "^TestForgedClient$/^loop$",
	},
	{
		"late answers reach nobody else (loop)", "loop_flow_linux.go",
		"if rawConnect(f.fd, &l.address) != 0 {", "if false {", "^TestNoAnswerOfAnother$/^loop$",
	},
}

// TestMutants checks that the tests of this package notice when a promise is
// broken: each mutant must be caught. It builds the package once for each.
func TestMutants(t *testing.T) {
	if os.Getenv("USHER_MUTANTS") == "" {
		t.Skip("SKIP: builds the tests once for every promise; make mutants does that")
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		t.Run(m.promise, func(t *testing.T) {
			t.Parallel() // a test that fails has waited for what did not come
			source, err := os.ReadFile(m.file)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(source), m.old); n != 1 {
				t.Fatalf("%q is %d times in %s: the mutant is out of date", m.old, n, m.file)
			}
			mutated := filepath.Join(t.TempDir(), filepath.Base(m.file))
			if err := os.WriteFile(mutated, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			overlay := filepath.Join(t.TempDir(), "overlay.json")
			text, _ := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(dir, m.file): mutated}})
			if err := os.WriteFile(overlay, text, 0o600); err != nil {
				t.Fatal(err)
			}
			// What depends on who is faster may go well once.
			for range 3 {
				cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlay, "-vet", "off", "-count", "1", "-timeout", "60s", "-run", m.caught)
				var out []byte
				out, err = cmd.CombinedOutput()
				if err != nil && !strings.Contains(string(out), "--- FAIL") && !strings.Contains(string(out), "test timed out") {
					t.Fatalf("%v\n%s", err, out)
				}
				if err != nil {
					return
				}
			}
			t.Errorf("not caught by %s", m.caught)
		})
	}
}
