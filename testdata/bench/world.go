//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"usher/internal/vip"
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

// startWorld returns errAbsent where there is no iptables, or its rules cannot be
// loaded.
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
	line, err := w.lines.ReadString('\n')
	if line != "ready\n" {
		w.stop()
		if why, absent := strings.CutPrefix(line, "absent: "); absent {
			return nil, fmt.Errorf("the kernel's part is %w: %s", errAbsent, strings.TrimSpace(why))
		}
		return nil, fmt.Errorf("make another namespace: %q, %w", line, err)
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
	if err := settle(); err != nil {
		return err
	}
	if err := translateInKernel(restore); err != nil {
		fmt.Println("absent:", strings.ReplaceAll(err.Error(), "\n", " "))
		return nil
	}
	backends, err := startChild("world-backend", []string{"GOMAXPROCS=1"}, "/proc/self/exe", "backend")
	if err != nil {
		return err
	}
	defer backends.stop()
	if err := awaitEcho(netip.AddrPortFrom(clusterIP, portNamed("echo").frontend), backends); err != nil {
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
	// The kernel looks for a route before it translates.
	return vip.FixedRoute{Prefix: netip.PrefixFrom(clusterIP, 16).Masked()}.Add()
}
