package up

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"usher/internal/agent"
)

// A stage is where an Up plays: its processes do nothing but note when they
// begin and end.
type stage struct {
	mu      sync.Mutex
	log     []string
	project *Project
	wrong   error                // of Load
	refused error                // of Apply
	exits   map[string]chan exit // of processes that are to end by themselves
	changes chan struct{}
}

func newStage(processes ...Process) *stage {
	return &stage{
		project: &Project{Processes: processes}, exits: make(map[string]chan exit), changes: make(chan struct{}),
	}
}

func (s *stage) note(format string, a ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf(format, a...))
}

// since returns what was noted after the last call. What was noted at the same
// time is in order of names.
func (s *stage) since() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	log := s.log
	s.log = nil
	return log
}

func (s *stage) run(ctx context.Context, p Process) (int, error) {
	s.note("+%s", p.Name)
	s.mu.Lock()
	exits := s.exits[p.Name]
	s.mu.Unlock()
	select {
	case e := <-exits:
		return e.code, e.err
	case <-ctx.Done():
		s.note("-%s", p.Name)
		return 0, nil
	}
}

// change makes the project another one and waits until that has been seen to.
func (s *stage) change(processes ...Process) {
	s.mu.Lock()
	s.project = &Project{Processes: processes}
	s.mu.Unlock()
	s.changes <- struct{}{}
	synctest.Wait()
}

func (s *stage) up() *Up {
	return &Up{
		Load: func() (*Project, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.project, s.wrong
		},
		Apply: func(context.Context, *Project) error { return s.refused },
		Run:   s.run, Say: s.note, Follow: func(*Project) {}, Changes: s.changes,
	}
}

func process(name string, env ...string) Process {
	return Process{Workload: agent.Workload{Name: name}, Env: env}
}

func check(t *testing.T, what string, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func sorted(s []string) []string { slices.Sort(s); return s }

// What a change of the files does to each process, and what it leaves alone.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(process("a"), process("b"), process("c"))
		ctx, stop := context.WithCancel(t.Context())
		var code int
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { code, err = s.up().Keep(ctx) })
		check(t, "the beginning", []string{"+a", "+b", "+c"}, sorted(s.since()))

		s.change(process("a"), process("b", "X=1"), process("d"))
		got := s.since()
		check(t, "stopped first", []string{"-b", "-c"}, sorted(got[:2]))
		check(t, "a change", []string{"+b", "+d", "started: b, d", "stopped: b, c"}, sorted(got[2:]))
		s.change(process("a"), process("b", "X=1"), process("d"))
		check(t, "no change", nil, s.since())

		s.wrong = errors.New("line 3")
		s.change()
		check(t, "a wrong file", []string{"nothing is changed: line 3"}, s.since())
		s.wrong, s.refused = nil, errors.New("the daemon is not running")
		s.change()
		check(t, "a wrong manifest", []string{"not all is applied, and no process is changed: the daemon is not running"}, s.since())
		s.refused = nil

		stop()
		wg.Wait()
		check(t, "the end", []string{"-d", "-b", "-a"}, s.since())
		if code != 0 || err != nil {
			t.Errorf("Keep returned %d, %v", code, err)
		}
	})
}

// A process that has ended by itself stays so until it changes; one that could
// not be run is tried again with the next change of anything.
func TestKeepEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(process("a"), process("b"))
		s.exits["a"], s.exits["b"] = make(chan exit), make(chan exit)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { _, _ = s.up().Keep(ctx) })
		s.since()
		s.exits["a"] <- exit{code: 3}
		check(t, "an end", []string{"a has ended with exit code 3"}, s.since())
		s.exits["b"] <- exit{err: errors.New("./b: command not found")}
		check(t, "an error", []string{"b does not run: ./b: command not found"}, s.since())
		s.change(process("a"), process("b"))
		check(t, "the same", []string{"+b", "started: b"}, sorted(s.since()))
		s.change(process("a", "X=1"), process("b"))
		check(t, "another", []string{"+a", "started: a"}, sorted(s.since()))
		stop()
	})
}

func TestKeepAbortOnExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(process("a"), process("b"), process("c"))
		s.exits["b"] = make(chan exit)
		u := s.up()
		u.AbortOnExit = true
		var code int
		var wg sync.WaitGroup
		wg.Go(func() { code, _ = u.Keep(t.Context()) })
		s.since()
		s.exits["b"] <- exit{code: 3}
		wg.Wait()
		check(t, "the end", []string{"-c", "-a"}, s.since())
		if code != 3 {
			t.Errorf("exit code %d", code)
		}
	})
}

// What is saved while the project is applied for the first time is seen.
func TestKeepFollowsFirst(t *testing.T) {
	s := newStage()
	u := s.up()
	u.Follow = func(*Project) { s.note("follow") }
	u.Apply = func(context.Context, *Project) error { s.note("apply"); return nil }
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := u.Keep(ctx); err != nil {
		t.Fatal(err)
	}
	check(t, "the order", []string{"follow", "apply"}, s.log)
}

// A project that is wrong from the beginning starts nothing.
func TestKeepWrong(t *testing.T) {
	for name, set := range map[string]func(*stage, error){
		"load":  func(s *stage, err error) { s.wrong = err },
		"apply": func(s *stage, err error) { s.refused = err },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(process("a"))
			want := errors.New("wrong")
			set(s, want)
			if _, err := s.up().Keep(t.Context()); err != want || len(s.log) > 0 {
				t.Errorf("error %v, log %q", err, s.log)
			}
		})
	}
}
