package etcd

import (
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// A line leads from a socket of its own to that of a server, and can be cut.
type line struct {
	t       *testing.T
	socket  string
	server  string
	running sync.WaitGroup

	mu    sync.Mutex // guards the following
	l     net.Listener
	isCut bool
	conns []net.Conn
}

// newLine returns a line that ends with the test.
func newLine(t *testing.T, server string) *line {
	t.Helper()
	n := &line{t: t, socket: filepath.Join(t.TempDir(), "line"), server: server}
	n.restore()
	t.Cleanup(n.cut)
	return n
}

// restore lets connections through.
func (n *line) restore() {
	n.t.Helper()
	l, err := net.Listen("unix", n.socket)
	if err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.l, n.isCut = l, false
	n.running.Go(func() { n.accept(l) })
}

// cut ends all connections and refuses others.
func (n *line) cut() {
	n.mu.Lock()
	n.isCut = true
	n.l.Close()
	for _, c := range n.conns {
		c.Close()
	}
	n.conns = nil
	n.mu.Unlock()
	n.running.Wait()
}

func (n *line) accept(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", n.server)
		if err != nil {
			client.Close()
			continue
		}
		n.mu.Lock()
		n.conns = append(n.conns, client, server)
		if n.isCut { // after Accept
			client.Close()
			server.Close()
		}
		n.mu.Unlock()
		for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
			n.running.Go(func() {
				io.Copy(way[0], way[1])
				way[0].Close()
				way[1].Close()
			})
		}
	}
}
