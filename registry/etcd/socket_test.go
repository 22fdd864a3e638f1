package etcd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

func TestSocketPath(t *testing.T) {
	if got := SocketPath("/a/b"); got != "/a/b/etcd.sock" {
		t.Errorf("SocketPath = %s", got)
	}
	t.Setenv("TMPDIR", "/tmp")
	deep := "/" + strings.Repeat("x", 120)
	got := SocketPath(deep)
	if len(got) > longestSocket || !inTemporary(got) {
		t.Errorf("SocketPath of a deep directory = %s", got)
	}
	if got == SocketPath(deep+"y") {
		t.Error("two directories have one socket")
	}
}

// TestDeepDirectory runs a server in a directory too deep for a socket.
func TestDeepDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	s := startServerIn(t, dir, t.Output())
	commit(t, s.client(), put(service("a"), 0))
	private := filepath.Dir(SocketPath(dir))
	info, err := os.Stat(private)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory of the socket: %v, %v", info, err)
	}
	s.stop()
	if _, err := os.Stat(private); !os.IsNotExist(err) {
		t.Errorf("the directory of the socket after the end: %v", err)
	}
}

// TestForeignDirectory puts something else where the directory of a socket
// should be: it is not used.
func TestForeignDirectory(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	socket := SocketPath("/" + strings.Repeat("x", 120))
	if !inTemporary(socket) {
		t.Skip("SKIP: the temporary directory is too deep")
	}
	if err := os.Symlink(t.TempDir(), filepath.Dir(socket)); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), Config{Endpoints: []string{"unix://" + socket}}); err == nil {
		t.Error("a socket below a link was dialled")
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIP the rest: only root can make a directory of another user")
	}
	if err := os.Remove(filepath.Dir(socket)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Dir(socket), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Dir(socket), 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), Config{Endpoints: []string{"unix://" + socket}}); err == nil {
		t.Error("a socket in another user's directory was dialled")
	}
}

// TestDeepSuccessor has a server wait in such a directory for another that is
// about to end: that removes the directory of the socket as it does.
func TestDeepSuccessor(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	config := ServerConfig{Dir: dir, Socket: SocketPath(dir)}
	private := filepath.Dir(config.Socket)
	synctest.Test(t, func(t *testing.T) {
		unlock, err := config.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			unlock, err := config.open(t.Context())
			if err == nil {
				err = unlock()
			}
			done <- err
		}()
		synctest.Wait() // it waits for the lock
		if err := os.Remove(private); err != nil {
			t.Fatal(err)
		}
		unlock()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
	if _, err := os.Stat(private); err != nil {
		t.Errorf("the directory of the socket: %v", err)
	}
}
