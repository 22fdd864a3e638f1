//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A peer is what stands between the load and the backends.
type peer struct {
	name    string
	host    netip.Addr
	at      netip.AddrPort // where the load goes, if that is all there is to know
	root    int            // then: whose CPU counts, with its children's
	tcpOnly bool
	launch  func() (*child, error) // nil: nothing is in between
	child   *child
}

var peerNames = []string{"direct", "haproxy", "nginx", "naive", "usher"}

// errAbsent is for programs that this machine does not have.
var errAbsent = errors.New("not installed")

// newPeer returns a peer that has not been started, or errAbsent.
func newPeer(name string, o options) (*peer, error) {
	switch name {
	case "direct":
		return &peer{name: name, host: backendHosts[0]}, nil
	case "haproxy":
		return newHAProxy()
	case "nginx":
		return newNginx()
	case "naive":
		return &peer{name: name, host: naiveHost, launch: func() (*child, error) {
			return startChild(name, nil, "/proc/self/exe", "naive")
		}}, nil
	}
	program, err := filepath.Abs(o.usher)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("find usher: %w; make build makes it", err)
	}
	return &peer{name: name, host: usherHost, launch: func() (*child, error) {
		c, _, err := launchUsher(program)
		return c, err
	}}, nil
}

// address returns where the load goes.
func (p *peer) address(on port) netip.AddrPort {
	if p.at.IsValid() {
		return p.at
	}
	if p.launch == nil {
		return netip.AddrPortFrom(p.host, on.backend)
	}
	return netip.AddrPortFrom(p.host, on.frontend)
}

// serves reports whether the peer can take its turn in a mode.
func (p *peer) serves(m mode) bool {
	if p.launch == nil {
		return m.name != "idle" // nobody holds anything
	}
	return !p.tcpOnly || !portNamed(m.port).udp
}

// pids returns the processes of the peer.
func (p *peer) pids() []int {
	if p.root != 0 {
		return tree(p.root)
	}
	if p.child == nil {
		return nil
	}
	return tree(p.child.pid())
}

func (p *peer) start() error {
	if p.launch == nil {
		return nil
	}
	var err error
	if p.child, err = p.launch(); err != nil {
		return err
	}
	if err := awaitEcho(p.address(portNamed("echo")), p.child); err != nil {
		words := p.child.words()
		p.stop()
		return fmt.Errorf("start %s: %w\n%s", p.name, err, words)
	}
	return nil
}

func (p *peer) stop() {
	if p.child != nil {
		p.child.stop()
		p.child = nil
	}
}

func (p *peer) restart() error {
	p.stop()
	return p.start()
}

// awaitEcho waits until a byte comes back, for as long as there is a child.
func awaitEcho(addr netip.AddrPort, c *child) error {
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if c.ended() {
			return errors.New("it has ended")
		}
		if err = askEcho(addr); err == nil {
			return nil
		}
	}
	return err
}

func askEcho(addr netip.AddrPort) error {
	conn, err := net.DialTimeout("tcp", addr.String(), time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte{1}); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

// usherHost is the twin of the Service's ClusterIP in the View loopback.
var usherHost = netip.AddrFrom4([4]byte{127, 96, 0, 30})

// launchUsher starts a daemon on an empty state directory, and applies the
// Service as a user would. It returns where its API is, too.
func launchUsher(program string) (c *child, server string, err error) {
	dir, err := os.MkdirTemp(os.Getenv(directoryEnv), "usher.")
	if err != nil {
		return nil, "", err
	}
	config, socket := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "usher.sock")
	// A configuration of its own, so that the user's does not count.
	text := "views: [loopback]\napi: { listen: \"127.0.0.1:0\" }\nlog: { level: error }\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	manifest, err := writeTemplate("service.yaml", parameters{})
	if err != nil {
		return nil, "", err
	}
	c, err = startChild("usher", nil, program, "serve", "--config", config, "--socket", socket, "--data-dir", filepath.Join(dir, "state"))
	if err != nil {
		return nil, "", err
	}
	server = "unix:" + socket
	if err := applyManifest(program, server, manifest, c); err != nil {
		words := c.words()
		c.stop()
		return nil, "", fmt.Errorf("start usher: %w\n%s", err, words)
	}
	return c, server, nil
}

// applyManifest asks the daemon until it is there. The answer comes when it
// serves the Service.
func applyManifest(program, server, manifest string, daemon *child) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		cmd := exec.CommandContext(ctx, program, "apply", "-f", manifest)
		cmd.Env = append(cleanEnv(), "USHER_SERVER="+server)
		out, err := cmd.CombinedOutput()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || daemon.ended() {
			return fmt.Errorf("apply %s: %w: %s", filepath.Base(manifest), err, strings.TrimSpace(string(out)))
		}
		time.Sleep(50 * time.Millisecond)
	}
}
