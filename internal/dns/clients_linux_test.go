package dns

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	clientsEnv = "USHER_TEST_DNS_CLIENTS" // set in the child of TestClients

	clientsResolvConf = "nameserver 127.96.0.10\n" +
		"search finance.svc.cluster.local svc.cluster.local cluster.local\n" +
		"options ndots:5\n"
)

// TestClients lets the resolvers of this machine find a Service along a search
// list. They all want a nameserver on port 53 and a resolv.conf, so it runs
// itself in namespaces of its own.
func TestClients(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestClientsInNamespace$", "-test.v")
	cmd.Env = append(os.Environ(), clientsEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Skipf("SKIPPED: no namespaces of one's own here: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("in the namespace: %v", err)
	}
	t.Logf("%s", out.Bytes())
}

// TestClientsInNamespace is the child of TestClients.
func TestClientsInNamespace(t *testing.T) {
	if os.Getenv(clientsEnv) == "" {
		t.Skip("runs as the child of TestClients")
	}
	prepareNamespace(t)
	s := testServer(t)
	view := anyIP()
	view.Addr, view.Device = netip.MustParseAddrPort("127.96.0.10:53"), "lo"
	l, err := s.Listen(t.Context(), view)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()

	t.Run("Go", testGoClient)
	for _, c := range clients(t) {
		t.Run(c.name, c.test)
	}
}

func testGoClient(t *testing.T) {
	began := time.Now()
	addrs, err := net.DefaultResolver.LookupHost(t.Context(), "payment-service.finance")
	if err != nil || len(addrs) != 1 || addrs[0] != "10.96.143.7" {
		t.Errorf("LookupHost = %v, %v", addrs, err)
	}
	if _, err := net.DefaultResolver.LookupHost(t.Context(), "nope.finance"); err == nil {
		t.Error("LookupHost finds nope.finance")
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %v", took)
	}
}

// A client is a program that prints the address of the name in its last
// argument, and "slow" when the lookup took a second.
type client struct {
	name    string
	command []string
	absent  string // what it prints of a name that does not exist
}

func clients(t *testing.T) []client {
	const node = `const n = process.argv[1], t = Date.now();
		require("dns").lookup(n, {all: true}, (err, all) =>
			console.log(err ? err.code : all.map(a => a.address).join(), Date.now() - t < 1000 ? "" : "slow"))`
	const python = `import socket, sys, time
t = time.time()
try: r = socket.getaddrinfo(sys.argv[1], None, type=socket.SOCK_STREAM)[0][4][0]
except socket.gaierror: r = "gaierror"
print(r, "" if time.time() - t < 1 else "slow")`
	const java = `class Lookup { public static void main(String[] args) {
		long t = System.nanoTime();
		String r;
		try { r = java.net.InetAddress.getByName(args[0]).getHostAddress(); }
		catch (java.net.UnknownHostException e) { r = "unknown"; }
		System.out.println(r + (System.nanoTime() - t < 1_000_000_000L ? "" : " slow"));
	} }`
	javaFile := filepath.Join(t.TempDir(), "Lookup.java")
	if err := os.WriteFile(javaFile, []byte(java), 0o600); err != nil {
		t.Fatal(err)
	}
	return []client{
		{"glibc", []string{"getent", "ahosts"}, ""},
		{"Node", []string{"node", "-e", node}, "ENOTFOUND"},
		{"Python", []string{"python3", "-c", python}, "gaierror"},
		{"Java", []string{"java", javaFile}, "unknown"},
		{"dig", []string{"dig", "+search", "+short", "+time=1", "+tries=1"}, ""},
	}
}

func (c client) test(t *testing.T) {
	path, err := exec.LookPath(c.command[0])
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	lookUp := func(name string) string {
		cmd := exec.CommandContext(t.Context(), path, append(c.command[1:], name)...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil && stderr.Len() > 0 {
			t.Logf("%s %s: %v: %s", c.name, name, err, stderr.String())
		}
		return string(out)
	}
	if got := lookUp("payment-service.finance"); !strings.HasPrefix(got, "10.96.143.7") || strings.Contains(got, "slow") {
		t.Errorf("payment-service.finance is %q", got)
	}
	if got := lookUp("nope.finance"); !strings.HasPrefix(got, c.absent) || strings.Contains(got, "10.96") || strings.Contains(got, "slow") {
		t.Errorf("nope.finance is %q, want %q", got, c.absent)
	}
}

// prepareNamespace brings lo up and puts a resolv.conf in place, in the network
// and mount namespaces of this process alone.
func prepareNamespace(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatalf("bring lo up: %v", err)
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("make mounts private: %v", err)
	}
	for path, text := range map[string]string{
		"/etc/resolv.conf":   clientsResolvConf,
		"/etc/nsswitch.conf": "hosts: files dns\n",
	} {
		if _, err := os.Stat(path); err != nil {
			t.Logf("no %s to replace: %v", path, err)
			continue
		}
		own := filepath.Join(t.TempDir(), filepath.Base(path))
		if err := os.WriteFile(own, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(own, path, "", unix.MS_BIND, ""); err != nil {
			t.Fatalf("replace %s: %v", path, err)
		}
	}
}
