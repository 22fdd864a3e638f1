package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// writes keeps every Write apart.
type writes []string

func (w *writes) Write(p []byte) (int, error) {
	*w = append(*w, string(p))
	return len(p), nil
}

func TestLineWriter(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	tests := map[string]struct {
		in   []string
		want writes
	}{
		"lines":                       {in: []string{"a\nb\n"}, want: writes{"p | a\n", "p | b\n"}},
		"an empty line":               {in: []string{"\n"}, want: writes{"p | \n"}},
		"a line in pieces":            {in: []string{"a", "b", "\nc\n"}, want: writes{"p | ab\n", "p | c\n"}},
		"no end":                      {in: []string{"a\nb"}, want: writes{"p | a\n", "p | b\n"}},
		"nothing":                     {in: []string{""}},
		"a line that is far too long": {in: []string{long, "y\n"}, want: writes{"p | " + long + "\n", "p | y\n"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got writes
			w := &lineWriter{w: &got, prefix: "p | "}
			for _, s := range tt.in {
				if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
					t.Fatalf("wrote %d, %v, want %d", n, err, len(s))
				}
			}
			if err := w.flush(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A gate is a writer that stalls until it is closed.
type gate chan struct{}

func (g gate) Write(p []byte) (int, error) {
	<-g
	return len(p), nil
}

// Nobody reads the output, as when a pager waits for its user: a process can be
// stopped all the same, and the Pod of one that ends goes at once.
func TestRunNobodyReads(t *testing.T) {
	stall := func(t *testing.T, stderrToo bool) func(*Agent) {
		g := make(gate)
		t.Cleanup(func() { close(g) })
		return func(a *Agent) {
			a.Stdout = g
			if stderrToo {
				a.Stderr = g
			}
		}
	}
	for _, tt := range []struct {
		name      string
		stderrToo bool
	}{{"stdout", false}, {"stderr too", true}} {
		t.Run(tt.name, func(t *testing.T) {
			r := startOn(t, newFakeAPI(), Workload{Command: program("chatty"), Replicas: 2}, stall(t, tt.stderrToo))
			r.await(t, 1, "status payment-0 Running ready=true")
			r.await(t, 1, "status payment-1 Running ready=true")
			began := time.Now()
			r.stop()
			r.wait(t, 0)
			if took := time.Since(began); took > 2*outputDelay+5*talkDelay {
				t.Errorf("stopping took %v", took)
			}
		})
	}
	t.Run("killed by somebody", func(t *testing.T) {
		pids := t.TempDir()
		r := startOn(t, newFakeAPI(), Workload{Command: program("pid", pids, "chatty")}, stall(t, true))
		r.await(t, 1, "status payment-0 Running ready=true")
		if err := syscall.Kill(readPid(t, filepath.Join(pids, "payment-0")), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		r.await(t, 1, "delete payment-0 grace=0")
		if took := time.Since(began); took > outputDelay/2 {
			t.Errorf("the Pod went after %v", took)
		}
		r.stop()
		r.wait(t, 128+9)
	})
}

// The rest of the output of a process that has ended is passed on, even if its
// reader is slow.
func TestRunSlowReader(t *testing.T) {
	g := make(gate)
	var got strings.Builder
	r := startOn(t, newFakeAPI(), Workload{Command: program("pages")}, func(a *Agent) {
		a.Prefix, a.Stdout = false, writerFunc(func(p []byte) (int, error) {
			<-g
			return got.Write(p)
		})
	})
	r.await(t, 1, "delete payment-0 grace=0")
	time.AfterFunc(outputDelay+outputDelay/2, func() { close(g) })
	r.wait(t, 0)
	if diff := cmp.Diff(strings.Repeat("page\n", pages), got.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// readPid reads the file that the program "pid" writes, once it is there.
func readPid(t *testing.T, path string) int {
	t.Helper()
	for limit := time.After(40 * time.Second); ; {
		data, err := os.ReadFile(path)
		var pid int
		if n, _ := fmt.Sscanf(string(data), "%d\n", &pid); n == 1 {
			return pid
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-limit:
			t.Fatalf("no pid in %s: %v", path, err)
		}
	}
}

// A reader that stalls makes nobody wait but the first, and gets the lines in
// their order when it reads again.
func TestTalkStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := make(gate)
		var got writes
		talk := newTalker(writerFunc(func(p []byte) (int, error) {
			<-g
			return got.Write(p)
		}))
		start := time.Now()
		var want writes
		for i := range 2 * maxUnsaid {
			talk.talk("line %d", i)
			if i < maxUnsaid+1 { // one is with the writer
				want = append(want, fmt.Sprintf("line %d\n", i))
			}
		}
		if took := time.Since(start); took != talkDelay {
			t.Errorf("talk took %v, want %v", took, talkDelay)
		}
		close(g)
		synctest.Wait()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		talk.talk("again")
		if last := got[len(got)-1]; last != "again\n" {
			t.Errorf("the last line is %q when talk returns", last)
		}
		talk.close()
	})
}
