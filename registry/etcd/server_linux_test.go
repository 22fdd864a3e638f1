package etcd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestServerHasNoPort looks at every socket that the server has: none of them
// is of TCP or UDP.
func TestServerHasNoPort(t *testing.T) {
	s := startServer(t)
	commit(t, s.client(), put(service("a"), 0))
	sockets := make(map[string]bool) // inodes
	fds := fmt.Sprintf("/proc/%d/fd", s.pid())
	entries, err := os.ReadDir(fds)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target, _ := os.Readlink(filepath.Join(fds, e.Name()))
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			sockets[strings.TrimSuffix(inode, "]")] = true
		}
	}
	if len(sockets) == 0 {
		t.Fatal("the server has no socket at all")
	}
	for _, protocol := range []string{"tcp", "tcp6", "udp", "udp6", "raw", "packet"} {
		table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", s.pid(), protocol))
		if err != nil {
			t.Log(err) // a kernel without it
			continue
		}
		for line := range strings.Lines(string(table)) {
			for field := range strings.FieldsSeq(line) {
				if sockets[field] {
					t.Errorf("the server has a socket of %s: %s", protocol, line)
				}
			}
		}
	}
}
