package pki

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// maxLeaves bounds the certificates of one server: the machine's addresses are
// few, but all of 127.0.0.0/8 can be connected to.
const maxLeaves = 64

// A server has the certificates of one listener: one for its names and, where a
// client connects to another address of this machine, one for that too.
type server struct {
	authority *Authority
	names     []string // names and addresses

	mu     sync.Mutex // guards the following
	leaves map[netip.Addr]*leaf
}

// A leaf is a certificate until it is time for another one.
type leaf struct {
	cert   *tls.Certificate
	issuer *tls.Certificate
	until  time.Time
}

// ServerConfig returns the configuration of a TLS server that is known by names
// and addresses, and by any address of this machine that a client connects to.
// Certificates are made when they are needed and before they expire, and anew
// when the authority's files are replaced.
func (a *Authority) ServerConfig(names []string) *tls.Config {
	s := &server{authority: a, names: names, leaves: make(map[netip.Addr]*leaf)}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: s.certificate,
	}
}

// certificate implements tls.Config.GetCertificate. The cost of asking the disk
// for a new authority is small beside that of the handshake.
func (s *server) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	issuer, now := s.authority.authority(), s.authority.now()
	addr := s.extra(hello.Conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leaves[addr]
	if l != nil && now.Before(l.until) && l.issuer == issuer {
		return l.cert, nil
	}
	names := s.names
	if addr.IsValid() {
		names = append(slices.Clone(names), addr.String())
	}
	l, err := issue(issuer, names, now)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	if len(s.leaves) >= maxLeaves {
		clear(s.leaves)
	}
	s.leaves[addr] = l
	return l.cert, nil
}

// extra returns the address that a client connected to, unless it is one of the
// server's names.
func (s *server) extra(c net.Conn) netip.Addr {
	local, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := local.AddrPort().Addr().Unmap().WithZone("")
	if slices.Contains(s.names, addr.String()) {
		return netip.Addr{}
	}
	return addr
}

// issue makes a server certificate.
func issue(issuer *tls.Certificate, names []string, now time.Time) (*leaf, error) {
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "usher"},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, name := range names {
		if addr, err := netip.ParseAddr(name); err == nil {
			template.IPAddresses = append(template.IPAddresses, addr.AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	cert, err := sign(template, issuer)
	if err != nil {
		return nil, err
	}
	return &leaf{cert: cert, issuer: issuer, until: now.Add(leafLife * 2 / 3)}, nil
}
