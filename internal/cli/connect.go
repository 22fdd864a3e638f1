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

	"usher/internal/client"
	"usher/internal/config"
	"usher/internal/daemon"
	"usher/registry"
)

// globals are the flags of every client command.
type globals struct {
	env       Env
	server    string
	namespace string // as the flag says; "" without it

	mu     sync.Mutex // guards the following
	warned map[string]bool
}

func (g *globals) addFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&g.server, "server", "", "the daemon's API: unix:/path or http(s)://host:port (USHER_SERVER)")
	flags.StringVarP(&g.namespace, "namespace", "n", "", "the namespace of the request (USHER_NAMESPACE; default \"default\")")
	complete(root, "namespace", g.completeNamespace)
}

// client returns a client of the daemon that the flags or the environment
// name. The caller must Close it.
func (g *globals) client() (*client.Client, error) {
	server := cmp.Or(g.server, g.env.Getenv("USHER_SERVER"), "unix:"+config.DefaultSocket(g.env.Getenv))
	c, err := client.New(server, g.token(server))
	if err != nil {
		return nil, err
	}
	c.Warn = g.warn
	return c, nil
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

// token returns what shows to server that this user may write: USHER_TOKEN, or
// what the daemon of this user keeps where only this user can read it. The
// latter goes to no other machine.
func (g *globals) token(server string) string {
	if token := g.env.Getenv("USHER_TOKEN"); token != "" || strings.HasPrefix(server, "unix:") {
		return token
	}
	u, err := url.Parse(server)
	if err != nil {
		return ""
	}
	if addr, err := netip.ParseAddr(u.Hostname()); u.Hostname() != "localhost" && (err != nil || !addr.IsLoopback()) {
		return ""
	}
	dir := cmp.Or(g.env.Getenv("USHER_DATADIR"), config.DefaultDataDir(g.env.Getenv))
	data, err := os.ReadFile(filepath.Join(dir, daemon.TokenFile))
	if err != nil {
		return "" // the server says what it wants
	}
	return strings.TrimSpace(string(data))
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
