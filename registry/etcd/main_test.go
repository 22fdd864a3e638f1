package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/registry"
)

// These make the test binary another program; their value is a directory.
const (
	childEnv    = "USHER_TEST_ETCD"     // the embedded server
	parentEnv   = "USHER_TEST_PARENT"   // a process that supervises one
	externalEnv = "USHER_TEST_EXTERNAL" // an etcd with TLS on a TCP port
)

// quotaEnv is the quota of the embedded server, in bytes.
const quotaEnv = "USHER_TEST_QUOTA"

func TestMain(m *testing.M) {
	for name, program := range map[string]func(dir string) error{
		childEnv:    childProgram,
		parentEnv:   parentProgram,
		externalEnv: externalProgram,
	} {
		if dir := os.Getenv(name); dir != "" {
			if err := program(dir); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	goleak.VerifyTestMain(m)
}

func childProgram(dir string) error {
	quota, _ := strconv.ParseInt(os.Getenv(quotaEnv), 10, 64)
	return RunServer(context.Background(), ServerConfig{Dir: dir, Socket: SocketPath(dir), quota: quota}, os.Stdin)
}

func parentProgram(dir string) error {
	return Supervise(context.Background(), func() *exec.Cmd { return program(childEnv, dir) }, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// program returns the command that runs one of the other programs.
func program(name, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "USHER_TEST_") })
	cmd.Env = append(cmd.Env, name+"="+dir)
	return cmd
}

// A testServer is a supervised embedded server.
type testServer struct {
	t    testing.TB
	dir  string
	env  []string // of the child
	stop func()   // and wait for its end

	mu     sync.Mutex // guards the following
	starts int        // of a child
	before func()     // runs before the next start
}

// startServer starts a server that ends with the test.
func startServer(t testing.TB) *testServer {
	t.Helper()
	return startServerIn(t, filepath.Join(t.TempDir(), "etcd"), t.Output())
}

// startServerIn starts a server in a directory, with variables in its
// environment. It ends with the test.
func startServerIn(t testing.TB, dir string, log io.Writer, env ...string) *testServer {
	t.Helper()
	s := &testServer{t: t, dir: dir, env: env}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Supervise(ctx, s.command, slog.New(slog.NewTextHandler(log, nil))) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

func (s *testServer) command() *exec.Cmd {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.before != nil {
		s.before()
	}
	s.starts++
	cmd := program(childEnv, s.dir)
	cmd.Env = append(cmd.Env, s.env...)
	return cmd
}

// started returns how often a child was started.
func (s *testServer) started() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts
}

// pid returns the process of the child that serves.
func (s *testServer) pid() int {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, lockName))
	if err != nil {
		s.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		s.t.Fatal(err)
	}
	return pid
}

// kill ends the child that serves with SIGKILL. Before the next one starts it
// calls before, unless that is nil.
func (s *testServer) kill(before func()) {
	s.t.Helper()
	s.mu.Lock()
	s.before = before
	s.mu.Unlock()
	if err := syscall.Kill(s.pid(), syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
}

// client returns one of a server that answers: on a busy machine one that was
// just started may take longer than a write waits.
func (s *testServer) client() *Client {
	s.t.Helper()
	c := dial(s.t, Config{Endpoints: []string{"unix://" + SocketPath(s.dir)}})
	until(s.t, "the server answers", func() bool {
		_, err := c.Get(s.t.Context(), registry.KeyOf(service("any")))
		return !errors.Is(err, ErrUnavailable)
	})
	return c
}

// dial returns a Client that is closed with the test.
func dial(t testing.TB, config Config) *Client {
	t.Helper()
	c, err := Dial(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// mirror runs a Mirror into a Store until the test ends, and waits for the
// first list.
func (s *testServer) mirror(c *Client) (*registry.Store, *reports) {
	s.t.Helper()
	return runMirror(s.t, &Mirror{Client: c})
}

// runMirror runs m into a Store until the test ends, and waits for the first
// list.
func runMirror(t testing.TB, m *Mirror) (*registry.Store, *reports) {
	t.Helper()
	r := new(reports)
	m.Store, m.Report, m.Log = registry.NewStore(), r.add, slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-m.Store.Synced():
	case <-time.After(patience):
		t.Fatal("the first list does not come")
	}
	return m.Store, r
}

// patience bounds every wait.
const patience = 60 * time.Second

// waitRevision waits until store has reached revision.
func waitRevision(t testing.TB, store *registry.Store, revision int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := store.WaitRevision(ctx, revision); err != nil {
		t.Fatal(err)
	}
}

// waitState waits until the state of store is as wanted. It returns all
// Commits from w on the way there, of which there must be one.
func waitState(t testing.TB, store *registry.Store, w *registry.Watch, wanted func(*registry.Snapshot) bool) []registry.Commit {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var all []registry.Commit
	for {
		snap := store.Snapshot()
		if len(all) > 0 && all[len(all)-1].Number == snap.Number() && wanted(snap) {
			return all
		}
		commits, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("the state does not come: %v", err)
		}
		all = append(all, commits...)
	}
}

// watch returns a Watch of store from now on.
func watch(t testing.TB, store *registry.Store) *registry.Watch {
	t.Helper()
	return store.WatchFrom(store.Snapshot())
}

// until calls done every few milliseconds until it is true.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(patience); !done(); <-again.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// commit makes a write that must succeed.
func commit(t testing.TB, c *Client, ops ...Op) int64 {
	t.Helper()
	rev, err := c.Commit(context.Background(), ops...)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// commitAgain makes a write that does not depend on the present state, while
// the server is being started again. The one under way when it was killed
// fails: nobody knows whether it was made.
func commitAgain(t testing.TB, c *Client, op Op) int64 {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		rev, err := c.Commit(t.Context(), op)
		if err == nil {
			return rev
		}
		if !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
	t.Fatal("no write succeeds any more")
	return 0
}

// reports collects what a Mirror reports.
type reports struct {
	mu   sync.Mutex
	list []string
}

func (r *reports) add(key string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, fmt.Sprintf("%s: %v", key, err))
}

func (r *reports) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}
