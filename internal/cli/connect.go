package cli

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/api"
	"usher/internal/client"
	"usher/internal/config"
	"usher/internal/daemon"
	"usher/internal/pki"
	"usher/registry"
)

// globals are the flags of every client command.
type globals struct {
	env       Env
	server    string
	tokenFlag string
	authority string // a file
	namespace string // as the flag says; "" without it

	mu     sync.Mutex // guards the following
	warned map[string]bool
}

func (g *globals) addFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&g.server, "server", "", "the daemon's API: unix:/path or http(s)://host:port (USHER_SERVER)")
	flags.StringVar(&g.tokenFlag, "token", "", "bearer token for the API (USHER_TOKEN)")
	flags.StringVar(&g.authority, "certificate-authority", "", "file with who signs the API's certificate (USHER_CERTIFICATE_AUTHORITY)")
	flags.StringVarP(&g.namespace, "namespace", "n", "", "the namespace of the request (USHER_NAMESPACE; default \"default\")")
	complete(root, "namespace", g.completeNamespace)
}

// client returns a client of the daemon that the flags or the environment
// name. The caller must Close it.
func (g *globals) client() (*client.Client, error) {
	server := g.address()
	c, err := client.New(server, g.token(server))
	if err != nil {
		return nil, err
	}
	c.Warn = g.warn
	if err := g.trust(c, server); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// address returns the daemon that the flags or the environment name.
func (g *globals) address() string {
	return cmp.Or(g.server, g.env.Getenv("USHER_SERVER"), "unix:"+config.DefaultSocket(g.env.Getenv))
}

// warn prints a warning of the server once, however many requests are answered
// with it.
func (g *globals) warn(text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.warned[text] {
		if g.warned == nil {
			g.warned = make(map[string]bool)
		}
		g.warned[text] = true
		fmt.Fprintln(g.env.Stderr, "Warning: "+printable(text))
	}
}

// token returns what shows to server who this user is: the flag, USHER_TOKEN, or
// by https what the daemon of this user keeps for its administrator.
func (g *globals) token(server string) string {
	if token := cmp.Or(g.tokenFlag, g.env.Getenv("USHER_TOKEN")); token != "" {
		return token
	}
	if !strings.HasPrefix(server, "https:") {
		return "" // whoever listens there could be anybody: by https, the authority of that daemon proves it
	}
	return strings.TrimSpace(string(g.ownFile(server, daemon.TokenFile(api.RoleAdmin))))
}

// trust tells c who may have signed the certificate of server: whom the flag or
// the environment names, else the authority of this user's daemon, else those
// that the system trusts.
func (g *globals) trust(c *client.Client, server string) error {
	file := cmp.Or(g.authority, g.env.Getenv("USHER_CERTIFICATE_AUTHORITY"))
	if file == "" {
		if own := g.ownFile(server, pki.CertFile); own != nil {
			return c.Trust(own)
		}
		return nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the certificate authority: %w", err)
	}
	if err := c.Trust(data); err != nil {
		return fmt.Errorf("read the certificate authority: %s: %w", file, err)
	}
	return nil
}

// ownFile reads a file out of the state directory of this user's daemon, for a
// server at a port of this machine, which may be that daemon. Without such a
// file, the server says what it wants.
func (g *globals) ownFile(server, name string) []byte {
	if strings.HasPrefix(server, "unix:") || !isHere(server) {
		return nil
	}
	dir := cmp.Or(g.env.Getenv("USHER_DATADIR"), config.DefaultDataDir(g.env.Getenv))
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil
	}
	return data
}

// isHere reports whether a server is on this machine.
func isHere(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "unix" || u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
}

// requestNamespace returns the namespace that a request is about when its
// object does not say.
func (g *globals) requestNamespace() string {
	return cmp.Or(g.namespace, g.env.Getenv("USHER_NAMESPACE"), metav1.NamespaceDefault)
}

// key returns the key of an object, or without a name that of the collection,
// in the namespace of the request where its Kind has one.
func (g *globals) key(k *registry.Kind, name string) registry.Key {
	key := registry.Key{Kind: k, Name: name}
	if k.Namespaced {
		key.Namespace = g.requestNamespace()
	}
	return key
}
