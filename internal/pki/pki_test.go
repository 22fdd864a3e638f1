package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A clock is what an Authority goes by.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// openAt opens an Authority that logs into a buffer.
func openAt(t *testing.T, dir string, now func() time.Time) (*Authority, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	a, err := open(dir, slog.New(slog.NewTextHandler(log, nil)), now)
	if err != nil {
		t.Fatal(err)
	}
	return a, log
}

// serve accepts TLS connections on addr with config, and says "hello" on each.
func serve(t *testing.T, config *tls.Config, addr string) (address string) {
	t.Helper()
	l, err := tls.Listen("tcp", addr, config)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "hello")
			c.Close()
		}
	})
	return l.Addr().String()
}

// connect returns the certificate that the server at address shows to a client
// which trusts the authority in dir, asks for name, and has that time.
func connect(t *testing.T, address, name, dir string, now func() time.Time) (*x509.Certificate, error) {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(dir, CertFile))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatalf("no certificate in %s", ca)
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	c, err := tls.DialWithDialer(dialer, "tcp", address, &tls.Config{RootCAs: roots, ServerName: name, Time: now})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if data, err := io.ReadAll(c); string(data) != "hello" {
		t.Errorf("read %q, %v", data, err)
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

// The authority is made once, for its owner alone.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	first, log := openAt(t, dir, time.Now)
	for _, name := range []string{CertFile, KeyFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	second, _ := openAt(t, dir, time.Now)
	if !second.current.Leaf.Equal(first.current.Leaf) {
		t.Error("another one was made")
	}
	if log.Len() > 0 {
		t.Errorf("logged %s", log)
	}
	other, _ := openAt(t, t.TempDir(), time.Now)
	if other.current.Leaf.Equal(first.current.Leaf) {
		t.Error("two installations have the same")
	}
}

// What is no secret any more, about to end, or half there, is replaced, and said
// to be. What cannot be read is not: clients trust it.
func TestOpenOther(t *testing.T) {
	start := time.Now()
	write := func(name, content string) func(dir string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600) }
	}
	leaf := func(dir string) error { // what does not sign others
		a, err := open(dir, slog.New(slog.DiscardHandler), time.Now)
		if err != nil {
			return err
		}
		return a.write(must(issue(a.current, []string{"localhost"}, start)).cert)
	}
	killed := func(dir string) error { // while another authority takes the place of the first
		other, _ := openAt(t, t.TempDir(), time.Now)
		other.dir = dir
		defer func() { _ = recover() }()
		return other.write(&tls.Certificate{PrivateKey: other.current.PrivateKey}) // the certificate, which comes last, is a panic
	}
	tests := map[string]struct {
		change func(dir string) error
		later  time.Duration
		anew   bool
		err    string
	}{
		"nothing":       {func(string) error { return nil }, 0, false, ""},
		"in nine years": {func(string) error { return nil }, 9 * 365 * 24 * time.Hour, false, ""},
		"in ten years":  {func(string) error { return nil }, authorityLife - time.Hour, true, ""},
		"exposed key":   {func(dir string) error { return os.Chmod(filepath.Join(dir, KeyFile), 0o640) }, 0, true, ""},
		"no key":        {func(dir string) error { return os.Remove(filepath.Join(dir, KeyFile)) }, 0, true, ""},
		"no cert":       {func(dir string) error { return os.Remove(filepath.Join(dir, CertFile)) }, 0, true, ""},
		"killed":        {killed, 0, true, ""},
		"linked key": {func(dir string) error {
			key := filepath.Join(dir, KeyFile)
			return errors.Join(os.Rename(key, key+".mine"), os.Symlink(KeyFile+".mine", key))
		}, 0, false, "ca.key: it is not a regular file"},
		"empty cert":   {write(CertFile, ""), 0, false, "to have another one made: remove ca.crt and ca.key from "},
		"broken key":   {write(KeyFile, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0, false, "read the certification authority: "},
		"no authority": {leaf, 0, false, "ca.crt may not sign others"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			first, _ := openAt(t, dir, func() time.Time { return start })
			if err := tt.change(dir); err != nil {
				t.Fatal(err)
			}
			log := new(bytes.Buffer)
			second, err := open(dir, slog.New(slog.NewTextHandler(log, nil)), func() time.Time { return start.Add(tt.later) })
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q in it", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if anew := !second.current.Leaf.Equal(first.current.Leaf); anew != tt.anew {
				t.Errorf("made anew: %v, want %v", anew, tt.anew)
			}
			if told := strings.Contains(log.String(), "kubeconfigs have to be written again"); told != tt.anew {
				t.Errorf("logged %q", log)
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A server is known by its names, and by the address that a client connects to.
func TestNames(t *testing.T) {
	dir := t.TempDir()
	a, _ := openAt(t, dir, time.Now)
	config := a.ServerConfig([]string{"localhost", "kubernetes.default.svc", "127.0.0.1", "::1", "10.96.0.1"})
	address := serve(t, config, "127.0.0.1:0")
	other := serve(t, config, "127.77.1.2:0") // as one of many addresses of a wildcard
	for _, name := range []string{"localhost", "kubernetes.default.svc", "127.0.0.1", "::1", "10.96.0.1"} {
		if _, err := connect(t, address, name, dir, time.Now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"127.77.1.2", "localhost"} {
		if _, err := connect(t, other, name, dir, time.Now); err != nil {
			t.Errorf("%s at %s: %v", name, other, err)
		}
	}
	for _, name := range []string{"evil.example", "127.77.1.2", "kubernetes.default.svc.cluster.local"} {
		if _, err := connect(t, address, name, dir, time.Now); !errors.As(err, new(x509.HostnameError)) {
			t.Errorf("%s at %s: %v", name, address, err)
		}
	}
	if _, err := connect(t, address, "localhost", openDir(t), time.Now); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("a client of another installation: %v", err)
	}
}

// openDir makes another installation's authority and returns its directory.
func openDir(t *testing.T) string {
	dir := t.TempDir()
	openAt(t, dir, time.Now)
	return dir
}

// A certificate is used again, and replaced before it expires; one that has
// expired is refused by clients.
func TestRenewal(t *testing.T) {
	dir := t.TempDir()
	c := &clock{now: time.Now()}
	a, _ := openAt(t, dir, c.Now)
	config := a.ServerConfig([]string{"localhost"})
	address := serve(t, config, "127.0.0.1:0")

	stuck := a.ServerConfig([]string{"localhost"}) // does not ask the clock again
	old := must(stuck.GetCertificate(&tls.ClientHelloInfo{Conn: new(net.TCPConn)}))
	stuckAt := serve(t, &tls.Config{Certificates: []tls.Certificate{*old}}, "127.0.0.1:0")

	show := func() *x509.Certificate {
		t.Helper()
		cert, err := connect(t, address, "localhost", dir, c.Now)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	first := show()
	c.advance(leafLife*2/3 - time.Minute)
	if !show().Equal(first) {
		t.Error("renewed before it was time")
	}
	c.advance(2 * time.Minute)
	second := show()
	if second.Equal(first) || second.NotAfter.Sub(first.NotAfter) < leafLife/2 {
		t.Errorf("until %v, after one until %v", second.NotAfter, first.NotAfter)
	}
	if _, err := connect(t, stuckAt, "localhost", dir, c.Now); err != nil {
		t.Errorf("the old one, for a third of its life: %v", err)
	}
	c.advance(leafLife) // the laptop slept
	var invalid x509.CertificateInvalidError
	if _, err := connect(t, stuckAt, "localhost", dir, c.Now); !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
		t.Errorf("the old one, expired: %v", err)
	}
	if third := show(); !third.NotAfter.After(c.Now()) {
		t.Errorf("until %v", third.NotAfter)
	}
}

// The authority's files can be replaced under a server that runs.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	a, log := openAt(t, dir, time.Now)
	address := serve(t, a.ServerConfig([]string{"localhost"}), "127.0.0.1:0")
	before := t.TempDir()
	move(t, dir, before, CertFile)
	move(t, dir, before, KeyFile)
	if _, err := connect(t, address, "localhost", before, time.Now); err != nil {
		t.Errorf("without files: %v", err)
	}
	next := openDir(t)
	move(t, next, dir, CertFile)
	if _, err := connect(t, address, "localhost", before, time.Now); err != nil {
		t.Errorf("with half of the new authority: %v", err)
	}
	move(t, next, dir, KeyFile)
	if _, err := connect(t, address, "localhost", dir, time.Now); err != nil {
		t.Errorf("with the new authority: %v\n%s", err, log)
	}
	if _, err := connect(t, address, "localhost", before, time.Now); err == nil {
		t.Error("the old authority is still used")
	}
}

func move(t *testing.T, from, to, name string) {
	t.Helper()
	if err := os.Rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
		t.Fatal(err)
	}
}

// However many addresses are connected to, few certificates are kept.
func TestLeavesAreBounded(t *testing.T) {
	a, _ := openAt(t, t.TempDir(), time.Now)
	s := &server{authority: a, leaves: make(map[netip.Addr]*leaf)}
	for i := range 3 * maxLeaves {
		hello := &tls.ClientHelloInfo{Conn: localConn{addr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i>>8), byte(i))}}}
		cert, err := s.certificate(hello)
		if err != nil || len(cert.Leaf.IPAddresses) != 1 || !cert.Leaf.IPAddresses[0].Equal(hello.Conn.LocalAddr().(*net.TCPAddr).IP) {
			t.Fatalf("%v, %v", cert, err)
		}
	}
	if len(s.leaves) > maxLeaves {
		t.Errorf("%d are kept", len(s.leaves))
	}
}

// A localConn has nothing but a local address.
type localConn struct {
	net.Conn
	addr net.Addr
}

func (c localConn) LocalAddr() net.Addr { return c.addr }
