package setup

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestCrash has a setup end within each record of its journal, and after it. The change of the
// last record may have been made by then, or not: teardown brings all back.
func TestCrash(t *testing.T) {
	whole := newFake(t)
	whole.setUp(t, Ports(), DNS(names))
	data, err := os.ReadFile(filepath.Join(whole.StateDir, journalName))
	if err != nil {
		t.Fatal(err)
	}
	changes, err := Pending(whole.StateDir)
	if err != nil || len(changes) != 5 {
		t.Fatalf("%d changes, %v", len(changes), err)
	}
	cuts := []int{0}
	for line := range bytes.Lines(data) {
		start := cuts[len(cuts)-1]
		cuts = append(cuts, start+1, start+len(line)/2, start+len(line)-1, start+len(line))
	}
	for _, cut := range cuts {
		for _, lastMade := range []bool{true, false} {
			m := newFake(t)
			before := m.tree(t)
			begun := bytes.Count(data[:cut], []byte("\n"))
			made := begun
			if !lastMade && made > 0 {
				made--
			}
			for _, c := range changes[:made] {
				if err := c.in(&m.Machine).write(c.After); err != nil {
					t.Fatal(err)
				}
			}
			put(t, m.StateDir, journalName, string(data[:cut]))
			m.tearDown(t)
			if diff := cmp.Diff(before, m.tree(t)); diff != "" {
				t.Fatalf("%d of %d bytes, %d changes (-want +got):\n%s", cut, len(data), made, diff)
			}
			m.setUp(t, Ports()) // what was cut is in nobody's way
			m.tearDown(t)
			if diff := cmp.Diff(before, m.tree(t)); diff != "" {
				t.Fatalf("%d of %d bytes, afterwards (-want +got):\n%s", cut, len(data), diff)
			}
		}
	}
}

// TestCrashInTeardown has a teardown end before it has noted what it did.
func TestCrashInTeardown(t *testing.T) {
	m := newFake(t)
	before := m.tree(t)
	m.setUp(t, Ports(), DNS(names))
	journal, err := os.ReadFile(filepath.Join(m.StateDir, journalName))
	if err != nil {
		t.Fatal(err)
	}
	m.tearDown(t)
	put(t, m.StateDir, journalName, string(journal))
	m.ran = nil
	m.tearDown(t)
	if diff := cmp.Diff(before, m.tree(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(m.ran) != 1 { // it is not known whether the resolver was told
		t.Errorf("it has run %q", m.ran)
	}
}

func TestJournalErrors(t *testing.T) {
	const good = `{"id":1,"change":{"kind":"sysctl","name":"net.ipv4.ip_unprivileged_port_start","before":"1024","after":"53"}}` + "\n"
	tests := []struct{ name, text, want string }{
		{"not JSON", good + "nonsense\n", "line 2 makes no sense: nonsense"},
		{"neither", good + `{"id":2}` + "\n", `line 2 makes no sense: {"id":2}`},
		{"of a later version", strings.ReplaceAll(good, "sysctl", "registry"), "nothing that this version of usher knows"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newFake(t)
			put(t, m.Root, portFile, "53\n")
			put(t, m.StateDir, journalName, tt.text)
			if err := m.Teardown(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if got := m.tree(t)[portFile]; got != "53" {
				t.Errorf("the port is %s", got)
			}
			if got := tree(t, m.StateDir)[journalName]; got != strings.TrimSpace(tt.text) {
				t.Errorf("the journal is\n%s", got)
			}
		})
	}
}

// Two at a time would undo each other's changes.
func TestOneAtATime(t *testing.T) {
	m := newFake(t)
	j, err := openJournal(m.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Setup(t.Context(), []Task{Ports()}); err == nil || !strings.Contains(err.Error(), "another usher setup or teardown is at work") {
		t.Errorf("error %v", err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	m.setUp(t, Ports())
}

// The resolver of a machine may take a moment.
func TestCanaryWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFake(t)
		start := time.Now()
		m.Lookup = func(context.Context, string) ([]netip.Addr, error) {
			if time.Since(start) < 3*time.Second {
				return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
			}
			return []netip.Addr{netip.MustParseAddr("192.0.2.1"), names.Address}, nil
		}
		m.setUp(t, DNS(names))
		if took := time.Since(start); took < 3*time.Second || took > patience {
			t.Errorf("it took %v", took)
		}
		if got := m.said(); !strings.Contains(got, names.Canary+" resolves to") {
			t.Errorf("it says:\n%s", got)
		}
	})
}

// A witness looks at the machine whenever it is told of what is about to be
// done.
type witness struct {
	t *testing.T
	*fakeMachine
	seen int
}

func (w *witness) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("#")) {
		return len(p), nil
	}
	w.seen++
	changes, err := Pending(w.StateDir)
	if err != nil || len(changes) != w.seen {
		w.t.Fatalf("before change %d there are %d in the journal, %v:\n%s", w.seen, len(changes), err, p)
	}
	c := changes[len(changes)-1]
	now, err := c.in(&w.Machine).read()
	if err != nil || !same(now, c.Before) {
		w.t.Errorf("before change %d of %s it is made, %v", w.seen, c.Place, err)
	}
	return len(p), nil
}

// TestJournalComesFirst checks that a change is in the journal before it is made.
func TestJournalComesFirst(t *testing.T) {
	m := newFake(t)
	w := &witness{t: t, fakeMachine: m}
	m.Out = w
	m.setUp(t, Ports(), DNS(names))
	if w.seen != 5 {
		t.Errorf("%d changes, want 5", w.seen)
	}
}
