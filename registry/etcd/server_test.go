package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"usher/registry"
)

// TestKill kills the server again and again while somebody writes: nothing
// that was acknowledged is lost, and it is back each time at once. That is 0.2 s
// with the short election, and up to 1.4 s with etcd's own. On a busy machine a
// restart may take any time, so that the quickest alone is looked at.
func TestKill(t *testing.T) {
	s := startServer(t)
	c := s.client()
	acked := make(map[string]bool)
	var took []time.Duration
	for i := range 4 * quickRestarts {
		name := fmt.Sprintf("s%d", i)
		if _, err := c.Commit(t.Context(), put(service(name), 0)); err == nil {
			acked[name] = true
		} else if !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
		if i%4 == 3 {
			s.kill(nil)
			start := time.Now()
			commitAgain(t, c, put(service("probe"), Any))
			took = append(took, time.Since(start))
		}
	}
	slices.Sort(took)
	t.Logf("it took %v to write again", took)
	if quickest := took[0]; quickest > 500*time.Millisecond {
		t.Errorf("it took %v or more to write again", quickest)
	}
	if worst := took[len(took)-1]; worst > 10*time.Second {
		t.Errorf("it took up to %v to write again", worst)
	}
	store, _ := s.mirror(c)
	for name := range acked {
		if !has(name)(store.Snapshot()) {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
}

// TestPacer lets runs end one after the other.
func TestPacer(t *testing.T) {
	const ms = time.Millisecond
	type run struct {
		took   time.Duration
		killed bool
		want   time.Duration
	}
	repeat := func(n int, r run) []run { return slices.Repeat([]run{r}, n) }
	tests := map[string][]run{
		"ends by itself": {{10 * ms, false, 50 * ms}, {10 * ms, false, 100 * ms}, {10 * ms, false, 200 * ms},
			{10 * ms, false, 400 * ms}, {10 * ms, false, 800 * ms}, {10 * ms, false, 1600 * ms}, {10 * ms, false, 3200 * ms},
			{10 * ms, false, maxRestart}, {10 * ms, false, maxRestart}, {steady + ms, false, 50 * ms}, {10 * ms, false, 100 * ms}},
		"killed after trouble": {{10 * ms, false, 50 * ms}, {10 * ms, false, 100 * ms}, {10 * ms, true, 50 * ms}},
		"killed now and then":  repeat(100, run{quickPeriod / quickRestarts, true, 50 * ms}),
		// As by a kernel without memory: soon it has a rest between.
		"killed at once": append(repeat(quickRestarts, run{10 * ms, true, 50 * ms}),
			run{10 * ms, true, 100 * ms}, run{10 * ms, true, 200 * ms}, run{10 * ms, true, 400 * ms}, run{10 * ms, true, 800 * ms},
			run{10 * ms, true, 1600 * ms}, run{10 * ms, true, 3200 * ms}, run{10 * ms, true, maxRestart}, run{10 * ms, true, maxRestart}),
	}
	for name, runs := range tests {
		var p pacer
		now := time.Now()
		for i, r := range runs {
			end := now.Add(r.took)
			got := p.next(now, end, r.killed)
			if got != r.want {
				t.Errorf("%s: %v after run %d, want %v", name, got, i, r.want)
			}
			now = end.Add(got)
		}
	}
}

// TestParentKilled kills the parent of a server: the server ends too, and
// another parent can have the directory at once.
func TestParentKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	parent := program(parentEnv, dir)
	parent.Stderr = t.Output()
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := sync.OnceFunc(func() { parent.Process.Kill(); parent.Wait() })
	t.Cleanup(reaped)
	c := dial(t, Config{Endpoints: []string{"unix://" + SocketPath(dir)}})
	commitAgain(t, c, put(service("a"), Any))
	if _, err := Lock(dir); !errors.Is(err, ErrLocked) {
		t.Fatalf("the child has no lock: %v", err)
	}
	reaped()
	s := startServerIn(t, dir, t.Output())
	commitAgain(t, c, put(service("b"), Any))
	if n := s.started(); n != 1 {
		t.Errorf("the second server needed %d starts", n)
	}
	if _, err := c.Get(t.Context(), registry.KeyOf(service("a"))); err != nil {
		t.Errorf("what the first parent's server wrote: %v", err)
	}
	// With the second server gone, nobody has the directory.
	s.stop()
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// TestSecondServer starts a server in the directory of another, which does not
// mind.
func TestSecondServer(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: the second server waits for 5 s for the first to end")
	}
	t.Parallel()
	s := startServer(t)
	c := s.client()
	commit(t, c, put(service("a"), 0))
	second := program(childEnv, s.dir)
	stdin, err := second.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprintf("%s is locked by process ", s.dir)) {
		t.Errorf("the second server: %v: %s", err, out)
	}
	commit(t, c, put(service("b"), 0))
}

// TestCorrupt starts a server on a database that is none. It says so, it does
// not spin, and its supervisor lives.
func TestCorrupt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	s := startServerIn(t, dir, t.Output())
	commit(t, s.client(), put(service("a"), 0))
	s.stop()
	db := filepath.Join(dir, "member", "snap", "db")
	if err := os.WriteFile(db, bytes.Repeat([]byte("garbage "), 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	var log syncBuffer
	s = startServerIn(t, dir, &log)
	start := time.Now()
	until(t, "four attempts", func() bool { return s.started() == 4 })
	// 50, 100, and 200 ms lie between them.
	if took := time.Since(start); took < 350*time.Millisecond {
		t.Errorf("four attempts in %v", took)
	}
	s.stop()
	if text := log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, db) {
		t.Errorf("the log does not name %s:\n%s", db, text)
	}
}

// TestStubbornChild supervises a program that does not end when its parent's
// pipe does.
func TestStubbornChild(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: a child has 4 s to end")
	}
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan *exec.Cmd, 1)
	done := make(chan error, 1)
	go func() {
		done <- Supervise(ctx, func() *exec.Cmd {
			cmd := exec.Command("sleep", "60")
			started <- cmd
			return cmd
		}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	}()
	cmd := <-started
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it is waited for")
	}
	if cmd.Process != nil && cmd.ProcessState == nil {
		t.Error("it still runs")
	}
}

// TestNoProgram supervises a program that is not there.
func TestNoProgram(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	err := Supervise(ctx, func() *exec.Cmd {
		if tries++; tries == 3 {
			cancel()
		}
		return exec.Command(filepath.Join(t.TempDir(), "nothing"))
	}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil || tries != 3 {
		t.Errorf("Supervise = %v after %d tries", err, tries)
	}
}

// TestServerIsQuiet starts and ends a server: that is no news at warn.
func TestServerIsQuiet(t *testing.T) {
	var log syncBuffer
	s := startServerIn(t, filepath.Join(t.TempDir(), "etcd"), &log)
	c := s.client()
	commit(t, c, put(service("a"), 0))
	until(t, "a log", func() bool { return strings.Contains(log.String(), "ready") })
	s.stop()
	if text := log.String(); strings.Contains(text, "level=ERROR") || strings.Contains(text, "level=WARN") {
		t.Errorf("the log of a start and a stop:\n%s", text)
	}
}

// TestSignals signals the server as a service manager does that ends all
// processes of a service: it stays for those that still write to it.
func TestSignals(t *testing.T) {
	var log syncBuffer
	s := startServerIn(t, filepath.Join(t.TempDir(), "etcd"), &log)
	c := s.client()
	commit(t, c, put(service("a"), 0))
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		if err := syscall.Kill(s.pid(), sig); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			commit(t, c, put(service("a"), Any))
		}
	}
	s.stop()
	if text := log.String(); s.started() != 1 || strings.Contains(text, "ended") {
		t.Errorf("started %d times:\n%s", s.started(), text)
	}
}

// TestServerIsPrivate checks that nobody else can reach the server's files. The
// directory was there, and open.
func TestServerIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := startServerIn(t, dir, t.Output())
	commit(t, s.client(), put(service("a"), 0))
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
