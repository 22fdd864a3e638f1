// Package config turns the configuration of the daemon, a file, the
// environment and flags, into one plain struct of typed values. Nothing else
// sees viper.
//
// It is for the daemon alone. Manifests never pass through it: viper would
// fold the case of their keys.
package config

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/viper"
	"k8s.io/apimachinery/pkg/util/validation"

	"usher/registry"
)

// Config is the configuration of a daemon.
type Config struct {
	ServiceCIDRs  []netip.Prefix // one for each IP family, the primary one first
	NodePorts     registry.PortRange
	NodePortsAt   NodePortAddresses
	Pool          netip.Prefix // of load balancers' addresses; not valid: none
	LoopbackCIDR  netip.Prefix
	ClusterDomain string
	NodeName      string
	Zone          string
	DataDir       string
	Etcd          Etcd
	Socket        string   // of the API
	Listen        string   // TCP address of the API; "": none
	Hosts         []string // more names and addresses of the API, in lower case
	TLSOnly       bool     // the TCP address of the API has no plain HTTP
	Engine        string   // of the proxy: "auto", "loop", "portable"
	Healthz       string   // TCP address of the proxy's health check; "": none
	DNS           DNS
	LogLevel      slog.Level
	Views         []string // "loopback", "anyip"; none: as permitted
}

// NodePortAddresses say at which addresses of the machine node ports are
// served.
type NodePortAddresses struct {
	Localhost, Primary, All bool
	Ranges                  []netip.Prefix
}

// DNS says what the nameserver answers.
type DNS struct {
	Upstreams []netip.AddrPort // for names outside the cluster domain; none: those of the host
	Pods      string           // which names Pods have: "disabled", "insecure" or "verified"

	EndpointPodNames bool // endpoints are named after their Pods
	Autopath         bool // Pods are answered along their search list

	RebindDomains []string // whose names may have addresses of Services
}

// Etcd says where an external etcd cluster is. Without Endpoints an embedded
// one is used.
type Etcd struct {
	Endpoints []string
	CAFile    string
	CertFile  string
	KeyFile   string
	Username  string
	Password  string
}

// keys has the keys as the file spells them.
type keys struct {
	ServiceCIDR   string
	NodePortRange string

	NodePortAddresses []string

	LoadBalancer  struct{ Pool string }
	LoopbackCIDR  string
	ClusterDomain string
	NodeName      string
	Zone          string
	DataDir       string
	Etcd          Etcd
	API           struct {
		Socket, Listen string
		Hosts          []string
		Plaintext      bool
	}
	DNS struct {
		Upstreams        []string
		Pods             string
		EndpointPodNames bool
		Autopath         bool
		RebindDomains    []string
	}
	Proxy struct{ Engine, Healthz string }
	Log   struct{ Level string }
	Views []string
}

// Sources are where a configuration comes from.
type Sources struct {
	Defaults []byte // config.yaml
	File     string // a path; "": none
	Getenv   func(string) string
	Flags    map[string]string // by key, as "api.socket"
}

// delimiter joins the keys of a nested value inside viper. A dot would split
// keys that have one of their own.
const delimiter = "::"

// Load reads the configuration. Flags win over the environment, that over the
// file, and that over the defaults.
func Load(src Sources) (*Config, error) {
	v := viper.NewWithOptions(viper.KeyDelimiter(delimiter))
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(src.Defaults)); err != nil {
		panic("config: the defaults do not parse: " + err.Error())
	}
	known := v.AllKeys()
	if src.File != "" {
		data, err := os.ReadFile(src.File)
		if err != nil {
			return nil, fmt.Errorf("read config: %w", err)
		}
		if err := merge(v, data, known); err != nil {
			return nil, fmt.Errorf("config %s: %w", src.File, err)
		}
	}
	for _, key := range known {
		name := "USHER_" + strings.ToUpper(strings.ReplaceAll(key, delimiter, "_"))
		if value := src.Getenv(name); value != "" {
			v.Set(key, value)
		}
	}
	for key, value := range src.Flags {
		v.Set(strings.ReplaceAll(key, ".", delimiter), value)
	}
	var k keys
	if err := v.UnmarshalExact(&k); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return k.parse(src.Getenv)
}

// merge adds a file to v. Every key of it has to be known.
func merge(v *viper.Viper, data []byte, known []string) error {
	file := viper.NewWithOptions(viper.KeyDelimiter(delimiter))
	file.SetConfigType("yaml")
	if err := file.ReadConfig(bytes.NewReader(data)); err != nil {
		return err
	}
	for _, key := range file.AllKeys() {
		if !slices.Contains(known, key) {
			return fmt.Errorf("unknown key %q", strings.ReplaceAll(key, delimiter, "."))
		}
	}
	return v.MergeConfig(bytes.NewReader(data))
}

// parse turns strings into typed values and fills in what depends on who and
// where the process is.
func (k *keys) parse(getenv func(string) string) (*Config, error) {
	c := &Config{
		ClusterDomain: strings.Trim(k.ClusterDomain, "."),
		Zone:          k.Zone, Etcd: k.Etcd, Listen: k.API.Listen, Views: k.Views,
		NodeName: k.NodeName, DataDir: k.DataDir, Socket: k.API.Socket, Engine: k.Proxy.Engine, Healthz: k.Proxy.Healthz,
		TLSOnly: !k.API.Plaintext,
	}
	for s := range strings.SplitSeq(k.ServiceCIDR, ",") {
		prefix, err := parsePrefix("serviceCIDR", strings.TrimSpace(s))
		if err != nil {
			return nil, err
		}
		c.ServiceCIDRs = append(c.ServiceCIDRs, prefix)
	}
	if n := len(c.ServiceCIDRs); n > 2 || n == 2 && c.ServiceCIDRs[0].Addr().Is4() == c.ServiceCIDRs[1].Addr().Is4() {
		return nil, fmt.Errorf("serviceCIDR %q: one range, or one for each IP family", k.ServiceCIDR)
	}
	var err error
	if c.NodePorts, err = registry.ParsePortRange(k.NodePortRange); err != nil {
		return nil, fmt.Errorf("nodePortRange: %w", err)
	}
	if c.NodePortsAt, err = parseNodePortAddresses(k.NodePortAddresses); err != nil {
		return nil, err
	}
	if c.LoopbackCIDR, err = parsePrefix("loopbackCIDR", k.LoopbackCIDR); err != nil {
		return nil, err
	}
	if !c.LoopbackCIDR.Addr().IsLoopback() {
		return nil, fmt.Errorf("loopbackCIDR %q: not a loopback range", k.LoopbackCIDR)
	}
	if k.LoadBalancer.Pool != "" {
		if c.Pool, err = c.parsePool(k.LoadBalancer.Pool); err != nil {
			return nil, err
		}
	}
	if msgs := validation.IsDNS1123Subdomain(c.ClusterDomain); len(msgs) > 0 {
		return nil, fmt.Errorf("clusterDomain %q: %s", k.ClusterDomain, msgs[0])
	}
	if c.Hosts, err = parseHosts(k.API.Hosts); err != nil {
		return nil, err
	}
	if c.DNS, err = k.parseDNS(); err != nil {
		return nil, err
	}
	if err := c.LogLevel.UnmarshalText([]byte(k.Log.Level)); err != nil {
		return nil, fmt.Errorf("log.level %q: debug, info, warn or error", k.Log.Level)
	}
	if !slices.Contains([]string{"auto", "loop", "portable"}, c.Engine) {
		return nil, fmt.Errorf("proxy.engine %q: auto, loop or portable", c.Engine)
	}
	for _, view := range c.Views {
		if view != "loopback" && view != "anyip" {
			return nil, fmt.Errorf("views: unknown view %q: loopback or anyip", view)
		}
	}
	return c, c.complete(getenv)
}

// parseHosts reads names and addresses that go into a certificate.
func parseHosts(list []string) ([]string, error) {
	var hosts []string
	for _, s := range list {
		host := strings.ToLower(strings.TrimSuffix(s, "."))
		if addr, err := netip.ParseAddr(host); err == nil {
			host = addr.Unmap().String()
		} else if msgs := validation.IsDNS1123Subdomain(host); len(msgs) > 0 {
			return nil, fmt.Errorf("api.hosts %q: neither an address nor a name: %s", s, msgs[0])
		}
		hosts = append(hosts, host)
	}
	return hosts, nil
}

func (k *keys) parseDNS() (DNS, error) {
	d := DNS{Pods: k.DNS.Pods, EndpointPodNames: k.DNS.EndpointPodNames, Autopath: k.DNS.Autopath}
	for _, s := range k.DNS.RebindDomains {
		s = strings.ToLower(strings.Trim(s, "."))
		if msgs := validation.IsDNS1123Subdomain(s); len(msgs) > 0 {
			return DNS{}, fmt.Errorf("dns.rebindDomains %q: %s", s, strings.Join(msgs, "; "))
		}
		d.RebindDomains = append(d.RebindDomains, s)
	}
	for _, s := range k.DNS.Upstreams {
		addr, err := parseServer(s)
		if err != nil {
			return DNS{}, fmt.Errorf("dns.upstreams: %w", err)
		}
		d.Upstreams = append(d.Upstreams, addr)
	}
	if !slices.Contains([]string{"disabled", "insecure", "verified"}, d.Pods) {
		return DNS{}, fmt.Errorf("dns.pods %q: disabled, insecure or verified", d.Pods)
	}
	return d, nil
}

// complete fills in what depends on who and where the process is.
func (c *Config) complete(getenv func(string) string) error {
	if c.NodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("nodeName: %w", err)
		}
		c.NodeName = strings.ToLower(host)
		if len(validation.IsDNS1123Subdomain(c.NodeName)) > 0 {
			c.NodeName = "localhost" // of a host that calls itself my_laptop
		}
	}
	if msgs := validation.IsDNS1123Subdomain(c.NodeName); len(msgs) > 0 {
		return fmt.Errorf("nodeName %q: %s", c.NodeName, msgs[0])
	}
	if c.DataDir == "" {
		c.DataDir = DefaultDataDir(getenv)
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return fmt.Errorf("dataDir: %w", err)
	}
	c.DataDir = dir
	if c.Socket == "" {
		c.Socket = DefaultSocket(getenv)
	}
	return nil
}

func parsePrefix(key, s string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%s: %w", key, err)
	}
	if prefix != prefix.Masked() {
		return netip.Prefix{}, fmt.Errorf("%s: %s has host bits; did you mean %s?", key, prefix, prefix.Masked())
	}
	if prefix.Addr().BitLen()-prefix.Bits() < 4 {
		return netip.Prefix{}, fmt.Errorf("%s: %s has no room for the kubernetes and kube-dns Services at its first and tenth address", key, prefix)
	}
	if prefix.Addr().Is6() && prefix.Bits() < 64 {
		return netip.Prefix{}, fmt.Errorf("%s: the shortest prefix for IPv6 is /64, got /%d", key, prefix.Bits())
	}
	return prefix, nil
}

// parseServer reads a DNS server's address, whose port is 53 by default.
func parseServer(s string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(addr, 53), nil
	}
	return netip.ParseAddrPort(s)
}
