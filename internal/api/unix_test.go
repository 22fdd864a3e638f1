package api

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestUnixSocketMode(t *testing.T) {
	s, _ := newTestServer(t, 9)
	path := filepath.Join(shortTempDir(t), "deep", "down", "usher.sock")
	if err := s.ListenUnix(path); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700, filepath.Dir(filepath.Dir(path)): 0o700} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestUnixSocketTaken(t *testing.T) {
	first, _ := newTestServer(t, 9)
	socket, _, _ := start(t, first)
	second, _ := newTestServer(t, 9)
	err := second.ListenUnix(socket)
	if want := "listen on unix:" + socket + ": another process serves it"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if got := fetch(t, unixClient(t, socket), "http://usher/livez"); got.code != 200 {
		t.Errorf("the first server: %d", got.code)
	}
}

// What a killed daemon leaves behind is replaced; what is no socket is not.
func TestUnixSocketStale(t *testing.T) {
	dir := shortTempDir(t)
	stale := filepath.Join(dir, "stale.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	s, _ := newTestServer(t, 9)
	if err := s.ListenUnix(stale); err != nil {
		t.Error(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.ListenUnix(file); err == nil || !strings.Contains(err.Error(), "something else than a socket") {
		t.Errorf("got %v", err)
	}
	if data, _ := os.ReadFile(file); string(data) != "precious" {
		t.Errorf("the file is now %q", data)
	}
}

// Another user is not let in, even where the mode of the socket would allow
// it. The test runs itself as that user.
func TestUnixSocketPeer(t *testing.T) {
	if socket := os.Getenv("USHER_TEST_DIAL"); socket != "" {
		fmt.Println(askRaw(socket))
		return
	}
	s, _ := newTestServer(t, 9)
	socket, _, _ := start(t, s)
	if got := askRaw(socket); !strings.Contains(got, "200 OK") {
		t.Errorf("this user got %q", got)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	if err := os.Chmod(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if got := dialAs(t, 65534, socket); strings.Contains(got, "HTTP") {
		t.Errorf("user 65534 got %q", got)
	}
	if got := dialAs(t, 0, socket); !strings.Contains(got, "200 OK") {
		t.Errorf("root got %q", got)
	}
}

func TestAdmitUser(t *testing.T) {
	tests := []struct {
		uid, self uint32
		ok        bool
	}{{1000, 1000, true}, {0, 1000, true}, {0, 0, true}, {1001, 1000, false}, {1000, 0, false}}
	for _, tt := range tests {
		if err := admitUser(tt.uid, tt.self); (err == nil) != tt.ok {
			t.Errorf("user %d at a daemon of %d: %v", tt.uid, tt.self, err)
		}
	}
}

func dialAs(t *testing.T, uid uint32, socket string) string {
	t.Helper()
	// The test binary may lie where only root can go.
	exe := filepath.Join(filepath.Dir(socket), "test")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skipf("copy the test binary: %v", err)
	}
	if err := os.WriteFile(exe, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestUnixSocketPeer$", "-test.v")
	cmd.Dir = filepath.Dir(socket)
	cmd.Env = append(os.Environ(), "USHER_TEST_DIAL="+socket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, NoSetGroups: true}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(string(out), "reply: ") {
		t.Fatalf("nothing was asked: %s", out)
	}
	return string(out)
}

// askRaw returns the first of what the server at socket answers.
func askRaw(socket string) string {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return "reply: " + err.Error()
	}
	defer c.Close()
	fmt.Fprint(c, "GET /livez HTTP/1.0\r\n\r\n")
	data, err := io.ReadAll(c)
	return fmt.Sprintf("reply: %q %v", data, err)
}

// TestListenUnixElsewhere checks that no socket is put where somebody else could
// replace it.
func TestListenUnixElsewhere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory to somebody else")
	}
	dir := shortTempDir(t)
	const somebody = 12345
	if err := os.Chown(dir, somebody, somebody); err != nil {
		t.Fatal(err)
	}
	s := New(Options{})
	defer s.Close()
	err := s.ListenUnix(filepath.Join(dir, "api.sock"))
	if err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
		t.Errorf("a socket in another user's directory: %v", err)
	}
}
