//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// clusterIP is the address of the Service in service.yaml.
var clusterIP = netip.AddrFrom4([4]byte{10, 96, 0, 30})

// A world is a network namespace of its own, in which the kernel takes
// connections to backends as kube-proxy has it do. Nothing of that is in the way
// of the others: connections are tracked in it alone.
type world struct {
	cmd   *exec.Cmd
	say   io.WriteCloser
	lines *bufio.Reader
}

// startWorld returns errAbsent where there is no iptables.
func startWorld() (*world, error) {
	program, err := lookProgram("iptables-restore")
	if err != nil {
		return nil, fmt.Errorf("%w (Debian's package iptables)", err)
	}
	w := &world{cmd: exec.Command("/proc/self/exe", "world", program)}
	w.cmd.Env = append(cleanEnv(), directoryEnv+"="+os.Getenv(directoryEnv))
	w.cmd.Stderr = os.Stderr
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	if w.say, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.lines = bufio.NewReader(out)
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("make another namespace: %w", err)
	}
	if line, err := w.lines.ReadString('\n'); line != "ready\n" {
		w.stop()
		return nil, fmt.Errorf("make another namespace: %q, %w", line, errors.Join(err, errAbsent))
	}
	return w, nil
}

// run makes a load there.
func (w *world) run(l load) (s sample, err error) {
	if err := json.NewEncoder(w.say).Encode(l.args()); err != nil {
		return s, err
	}
	line, err := w.lines.ReadBytes('\n')
	if err != nil {
		return s, err
	}
	if text, failed := bytes.CutPrefix(line, []byte("failed: ")); failed {
		return s, errors.New(string(bytes.TrimSpace(text)))
	}
	return s, json.Unmarshal(line, &s)
}

func (w *world) stop() {
	w.say.Close()
	_ = w.cmd.Wait()
}

// serveWorld is the other side of it.
func serveWorld(restore string) error {
	if err := errors.Join(settle(), translateInKernel(restore)); err != nil {
		return err
	}
	backends, err := startChild("world-backend", []string{"GOMAXPROCS=1"}, "/proc/self/exe", "backend")
	if err != nil {
		return err
	}
	defer backends.stop()
	if err := awaitAnswer(netip.AddrPortFrom(clusterIP, portNamed("echo").frontend)); err != nil {
		return err
	}
	fmt.Println("ready")
	for requests := json.NewDecoder(os.Stdin); ; {
		var args []string
		if err := requests.Decode(&args); err != nil {
			if err == io.EOF {
				err = nil
			}
			return err
		}
		s, err := runLoad(exec.Command("/proc/self/exe", args...))
		if err != nil {
			fmt.Println("failed:", strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
			return err
		}
	}
}

// translateInKernel gives the kernel the rules that kube-proxy would.
func translateInKernel(restore string) error {
	rules, err := writeTemplate("kube-proxy.rules", parameters{})
	if err != nil {
		return err
	}
	text, err := os.ReadFile(rules)
	if err != nil {
		return err
	}
	cmd := exec.Command(restore)
	cmd.Env = append(os.Environ(), "XTABLES_LOCKFILE="+filepath.Join(os.Getenv(directoryEnv), "xtables.lock"))
	cmd.Stdin = bytes.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("load the rules: %w: %s", err, bytes.TrimSpace(out))
	}
	// Connections that have ended would fill the table.
	if err := os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait", []byte("5"), 0); err != nil {
		fmt.Fprintln(os.Stderr, "bench: forget connections sooner:", err)
	}
	return addLocalRoute(netip.PrefixFrom(clusterIP, 16).Masked())
}

// addLocalRoute lets addresses be this namespace's own: the kernel looks for a
// route before it translates.
func addLocalRoute(to netip.Prefix) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	_, dst, err := net.ParseCIDR(to.String())
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{
		LinkIndex: lo.Attrs().Index, Dst: dst, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
	})
}

// awaitAnswer waits until a byte comes back.
func awaitAnswer(addr netip.AddrPort) error {
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = askEcho(addr); err == nil {
			return nil
		}
	}
	return err
}
