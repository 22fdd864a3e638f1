// Package pki is the certification authority of one installation: a key and a
// certificate in its state directory, and the server certificates that it signs.
//
// It signs for servers of this process alone, and keeps what it signed in
// memory: what is on disk is the authority that clients trust.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"usher/internal/secret"
)

// CertFile and KeyFile are the names of the authority's files.
const (
	CertFile = "ca.crt"
	KeyFile  = "ca.key"
)

const (
	// authorityLife is how long an authority lasts. Clients have a copy of it, and
	// would have to be told of another one.
	authorityLife = 10 * 365 * 24 * time.Hour

	// leafLife is how long a server certificate lasts. After two thirds of that
	// there is a new one.
	leafLife = 90 * 24 * time.Hour

	// clockSkew is by how much a client's clock may be behind.
	clockSkew = time.Hour
)

// An Authority signs server certificates. It is safe for concurrent use.
type Authority struct {
	dir string
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex // guards the following
	current *tls.Certificate
	seen    stamps // of the files that current is from, or that were no use
}

// stamps tell one state of the authority's files from another.
type stamps [2]struct {
	modified time.Time
	size     int64
}

// Open reads the authority in dir, and makes one on first use, when the old one
// is about to expire, and when others could have read its key. One of two files
// is an authority that was being made, and is made anew. Two that make none are
// an error: clients trust what they were.
func Open(dir string, log *slog.Logger) (*Authority, error) {
	return open(dir, log, time.Now)
}

func open(dir string, log *slog.Logger, now func() time.Time) (*Authority, error) {
	a := &Authority{dir: dir, log: log, now: now}
	const anew = "the certification authority is made anew: kubeconfigs have to be written again"
	seen := a.stamps()
	current, err := a.read()
	switch {
	case err == nil && now().Add(leafLife).Before(current.Leaf.NotAfter):
		a.current, a.seen = current, seen
		return a, nil
	case err == nil:
		log.Warn(anew, "expires", current.Leaf.NotAfter)
	case errors.Is(err, secret.ErrExposed), errors.Is(err, fs.ErrNotExist) && seen != stamps{}:
		log.Warn(anew, "err", err)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the certification authority: %w"+
			"\n  to have another one made: remove %s and %s from %s", err, CertFile, KeyFile, dir)
	}
	if a.current, err = a.create(); err != nil {
		return nil, fmt.Errorf("make a certification authority: %w", err)
	}
	a.seen = a.stamps()
	return a, nil
}

// create makes an authority and writes it.
func (a *Authority) create() (*tls.Certificate, error) {
	now := a.now()
	made, err := sign(&x509.Certificate{
		// Each has a name of its own, so that a client that has another one says so.
		Subject:   pkix.Name{CommonName: fmt.Sprintf("usher-ca@%d", now.Unix())},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IsCA:     true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}, nil)
	if err != nil {
		return nil, err
	}
	return made, a.write(made)
}

// write writes an authority. The certificate of the one before goes first, and
// that of the new one comes last: there is none beside the key of another, and
// Open makes anew what was interrupted.
func (a *Authority) write(made *tls.Certificate) error {
	key, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		return err
	}
	if err := os.Remove(a.path(CertFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := secret.Write(a.path(KeyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})); err != nil {
		return err
	}
	return secret.Write(a.path(CertFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Leaf.Raw}))
}

// read reads the authority's files.
func (a *Authority) read() (*tls.Certificate, error) {
	cert, err := os.ReadFile(a.path(CertFile))
	if err != nil {
		return nil, err
	}
	key, err := secret.Read(a.path(KeyFile))
	if err != nil {
		return nil, err
	}
	both, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	if !both.Leaf.IsCA {
		return nil, fmt.Errorf("%s may not sign others", CertFile)
	}
	return &both, nil
}

func (a *Authority) path(name string) string { return filepath.Join(a.dir, name) }

// stamps returns those of the files as they are.
func (a *Authority) stamps() stamps {
	var s stamps
	for i, name := range []string{CertFile, KeyFile} {
		if info, err := os.Stat(a.path(name)); err == nil {
			s[i].modified, s[i].size = info.ModTime(), info.Size()
		}
	}
	return s
}

// authority returns what signs now: what is on disk, if that has changed and is
// of use. While one of two files is replaced it is none.
func (a *Authority) authority() *tls.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.stamps()
	if now == a.seen {
		return a.current
	}
	a.seen = now
	found, err := a.read()
	switch {
	case err != nil:
		a.log.Warn("the certification authority on disk has changed and is no use: the one before stays", "err", err)
	case !found.Leaf.Equal(a.current.Leaf):
		a.log.Info("the certification authority on disk has changed, and is used from now on")
		a.current = found
	}
	return a.current
}

// sign makes a key, and a certificate of it by issuer or, if that is nil, by
// itself.
func sign(template *x509.Certificate, issuer *tls.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if issuer == nil {
		issuer = &tls.Certificate{Leaf: template, PrivateKey: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Leaf, &key.PublicKey, issuer.PrivateKey)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: cert}, nil
}
