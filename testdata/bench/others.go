//go:build linux

package main

import (
	"embed"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"text/template"
)

//go:embed service.yaml haproxy.cfg nginx.conf kube-proxy.rules
var files embed.FS

// parameters are what the files below are made with.
type parameters struct {
	Host        netip.Addr
	Threads     int
	Connections int
	Module      string // nginx' stream module, unless it is built in
	Directory   string
}

func newParameters(host netip.Addr) parameters {
	return parameters{
		Host: host, Threads: runtime.NumCPU(), Connections: descriptors()/2 - 500,
		Directory: os.Getenv(directoryEnv),
	}
}

// A row is one port of a file.
type row struct {
	Name, Protocol    string
	Frontend, Backend uint16
}

func (parameters) Backends() []netip.Addr { return backendHosts }

// Service is the address of the Service.
func (parameters) Service() netip.Addr { return clusterIP }

// Kernel is the protocol as iptables names it.
func (r row) Kernel() string { return strings.ToLower(r.Protocol) }

// Chance is that of a backend when it is asked for in its turn; "" for the last.
func (parameters) Chance(i int) string {
	if left := len(backendHosts) - i; left > 1 {
		return fmt.Sprintf("%.11f", 1/float64(left))
	}
	return ""
}

func (parameters) Ports() []row {
	var rows []row
	for _, p := range ports {
		protocol := "TCP"
		if p.udp {
			protocol = "UDP"
		}
		rows = append(rows, row{p.name, protocol, p.frontend, p.backend})
	}
	return rows
}

// writeTemplate writes one of the files into the run's directory, and returns
// its path.
func writeTemplate(name string, with parameters) (string, error) {
	t, err := template.ParseFS(files, name)
	if err != nil {
		return "", err
	}
	path := filepath.Join(os.Getenv(directoryEnv), name)
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := t.Execute(f, with); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return path, f.Close()
}

// lookProgram finds a program, where daemons are too.
func lookProgram(name string) (string, error) {
	for _, candidate := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is %w", name, errAbsent)
}

func newHAProxy() (*peer, error) {
	program, err := lookProgram("haproxy")
	if err != nil {
		return nil, fmt.Errorf("%w (Debian's package haproxy)", err)
	}
	with := newParameters(netip.AddrFrom4([4]byte{127, 0, 10, 1}))
	config, err := writeTemplate("haproxy.cfg", with)
	if err != nil {
		return nil, err
	}
	return &peer{name: "haproxy", host: with.Host, tcpOnly: true, launch: func() (*child, error) {
		return startChild("haproxy", nil, program, "-q", "-db", "-f", config)
	}}, nil
}

func newNginx() (*peer, error) {
	program, err := lookProgram("nginx")
	if err != nil {
		return nil, fmt.Errorf("%w (Debian's packages nginx-light and libnginx-mod-stream)", err)
	}
	with := newParameters(netip.AddrFrom4([4]byte{127, 0, 10, 2}))
	if with.Module, err = streamModule(program); err != nil {
		return nil, err
	}
	config, err := writeTemplate("nginx.conf", with)
	if err != nil {
		return nil, err
	}
	return &peer{name: "nginx", host: with.Host, launch: func() (*child, error) {
		return startChild("nginx", nil, program, "-p", with.Directory, "-c", config)
	}}, nil
}

// streamModule returns the path of nginx' module for TCP and UDP, or "" if it
// is built in.
func streamModule(program string) (string, error) {
	for _, dir := range []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/lib/nginx/modules"} {
		path := filepath.Join(dir, "ngx_stream_module.so")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	out, err := exec.Command(program, "-V").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ask nginx for its modules: %w", err)
	}
	for _, word := range strings.Fields(string(out)) {
		if word == "--with-stream" {
			return "", nil
		}
	}
	return "", fmt.Errorf("nginx' stream module is %w (Debian's package libnginx-mod-stream)", errAbsent)
}
