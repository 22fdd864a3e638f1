package etcd

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// externalProgram is an etcd as others run it: on a TCP port, with TLS. It
// prints its endpoint, and ends at the end of its standard input.
func externalProgram(dir string) error {
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "data")
	cfg.ListenClientUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.ListenPeerUrls = nil
	cfg.EnableGRPCGateway = false
	cfg.TickMs, cfg.ElectionMs = tickMs, electionMs
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.ClientTLSInfo = transport.TLSInfo{
		CertFile: filepath.Join(dir, "server.pem"), KeyFile: filepath.Join(dir, "server.key"),
		TrustedCAFile: filepath.Join(dir, "ca.pem"), ClientCertAuth: true,
	}
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	<-server.Server.ReadyNotify()
	fmt.Printf("https://%s\n", server.Clients[0].Addr())
	io.Copy(io.Discard, os.Stdin)
	server.Close()
	return nil
}

// startExternal runs externalProgram until the test ends, and returns the
// Config for it.
func startExternal(t *testing.T) Config {
	t.Helper()
	dir := t.TempDir()
	writeCertificates(t, dir)
	cmd := program(externalEnv, dir)
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	endpoint, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Endpoints: []string{strings.TrimSpace(endpoint)}, CAFile: filepath.Join(dir, "ca.pem"),
		CertFile: filepath.Join(dir, "client.pem"), KeyFile: filepath.Join(dir, "client.key"),
	}
}

// TestExternal uses a cluster of others: certificates, a user, and a Mirror
// that goes on after its token has been forgotten.
func TestExternal(t *testing.T) {
	t.Parallel()
	config := startExternal(t)
	admin := dial(t, config)
	commit(t, admin, put(service("a"), 0))

	bare := config
	bare.CertFile, bare.KeyFile = "", ""
	if _, err := dial(t, bare).Commit(t.Context(), put(service("b"), 0)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without a certificate: %v, want ErrUnavailable", err)
	}
	missing := config
	missing.CAFile += ".not"
	if _, err := Dial(t.Context(), missing); err == nil || !strings.Contains(err.Error(), missing.CAFile) {
		t.Errorf("without the CA's file: %v", err)
	}

	enableUsers(t, admin)
	if _, err := admin.Commit(t.Context(), put(service("b"), 0)); err == nil {
		t.Error("a write without a user succeeded")
	}
	wrong := config
	wrong.Username, wrong.Password = "root", "wrong"
	if _, err := Dial(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), "authentication failed") {
		t.Errorf("wrong password: %v", err)
	}
	user := config
	user.Username, user.Password = "root", "secret"
	c := dial(t, user)
	store, _ := runMirror(t, &Mirror{Client: c})
	waitRevision(t, store, commit(t, c, put(service("b"), 0)))
	if !has("a")(store.Snapshot()) || !has("b")(store.Snapshot()) {
		t.Error("the Store lacks what was written")
	}
	if got := c.Status(t.Context()); !strings.HasPrefix(got, config.Endpoints[0]+": etcd 3.") || !strings.HasSuffix(got, ", leader") {
		t.Errorf("Status = %q", got)
	}
}

func enableUsers(t *testing.T, c *Client) {
	t.Helper()
	ctx := t.Context()
	if _, err := c.etcd.UserAdd(ctx, "root", "secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.etcd.RoleAdd(ctx, "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.etcd.UserGrantRole(ctx, "root", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.etcd.AuthEnable(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestStatusOfMany asks an endpoint that is there and one that is not.
func TestStatusOfMany(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	commit(t, s.client(), put(service("a"), 0))
	away := "unix://" + t.TempDir() + "/nobody.sock"
	c := dial(t, Config{Endpoints: []string{away, "unix://" + SocketPath(s.dir)}})
	got := strings.Split(c.Status(t.Context()), "; ")
	if len(got) != 2 || !strings.HasPrefix(got[0], away+": "+ErrUnavailable.Error()) || !strings.Contains(got[1], ": etcd 3.") {
		t.Errorf("Status = %q", got)
	}
}

// writeCertificates writes a CA and a server's and a client's certificate.
func writeCertificates(t *testing.T, dir string) {
	t.Helper()
	caKey := newKey(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	writePEM(t, filepath.Join(dir, "ca.pem"), "CERTIFICATE", sign(t, ca, ca, caKey, caKey))
	for i, name := range []string{"server", "client"} {
		key := newKey(t)
		cert := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 2)), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		writePEM(t, filepath.Join(dir, name+".pem"), "CERTIFICATE", sign(t, cert, ca, key, caKey))
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		writePEM(t, filepath.Join(dir, name+".key"), "EC PRIVATE KEY", der)
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, cert, ca *x509.Certificate, key, caKey *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, ca, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
