package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/registry"
)

// load reads the project's config.yaml, a file of the test's and env.
func load(t *testing.T, file string, env map[string]string, flags map[string]string) (*Config, error) {
	t.Helper()
	defaults, err := os.ReadFile("../../config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	src := Sources{Defaults: defaults, Getenv: func(k string) string { return env[k] }, Flags: flags}
	if file != "" {
		src.File = filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(src.File, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Load(src)
}

func TestDefaults(t *testing.T) {
	c, err := load(t, "", map[string]string{"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/1", "USHER_NODENAME": "n"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	nodePorts, err := registry.ParsePortRange("30000-32767")
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		NodePorts:     nodePorts,
		ServiceCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		NodePortsAt:   NodePortAddresses{Localhost: true},
		Pool:          netip.MustParsePrefix("127.240.0.0/24"),
		LoopbackCIDR:  netip.MustParsePrefix("127.96.0.0/16"),
		ClusterDomain: "cluster.local",
		NodeName:      "n",
		DataDir:       DefaultDataDir(func(k string) string { return map[string]string{"HOME": "/home/u"}[k] }),
		Socket:        c.Socket,
		Listen:        "127.0.0.1:7080",
		DNS:           DNS{Pods: "verified"},
		Etcd:          Etcd{Endpoints: []string{}},
		Engine:        "auto",
		Views:         []string{},
	}
	if diff := cmp.Diff(want, c, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b registry.PortRange) bool { return a == b })); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func TestPrecedence(t *testing.T) {
	const file = "api: {listen: '127.0.0.1:1'}\nzone: file\nclusterDomain: file.test\netcd: {endpoints: [a, b]}"
	env := map[string]string{
		"USHER_API_LISTEN": "127.0.0.1:2", "USHER_ZONE": "env", "USHER_ETCD_ENDPOINTS": "c,d",
		"USHER_SERVICECIDR": "10.97.0.0/16,fd00:10:97::/112", "USHER_SERVER": "unix:/not/a/key",
	}
	c, err := load(t, file, env, map[string]string{"api.listen": "127.0.0.1:3"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:3" || c.Zone != "env" || c.ClusterDomain != "file.test" {
		t.Errorf("listen %s, zone %s, clusterDomain %s", c.Listen, c.Zone, c.ClusterDomain)
	}
	if diff := cmp.Diff([]string{"c", "d"}, c.Etcd.Endpoints); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	if len(c.ServiceCIDRs) != 2 {
		t.Errorf("serviceCIDRs %v", c.ServiceCIDRs)
	}
}

func TestAPI(t *testing.T) {
	c, err := load(t, "api: {hosts: [Laptop.example.org., '::ffff:192.0.2.7'], plaintext: false}", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"laptop.example.org", "192.0.2.7"}, c.Hosts); diff != "" || !c.TLSOnly {
		t.Errorf("TLSOnly %v, hosts (-want +got):\n%s", c.TLSOnly, diff)
	}
}

func TestDNS(t *testing.T) {
	c, err := load(t, "dns: {upstreams: [192.0.2.1, '[2001:db8::1]:5353'], pods: insecure, endpointPodNames: true}",
		map[string]string{"USHER_DNS_AUTOPATH": "true", "USHER_DNS_REBINDDOMAINS": "nip.io,.Example.org."}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := DNS{
		Upstreams: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("[2001:db8::1]:5353")},
		Pods:      "insecure", EndpointPodNames: true, Autopath: true,
		RebindDomains: []string{"nip.io", "example.org"},
	}
	if diff := cmp.Diff(want, c.DNS, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("dns (-want +got):\n%s", diff)
	}
}

func TestExternal(t *testing.T) {
	c, err := load(t, "loadBalancer: {pool: ''}", map[string]string{"USHER_NODEPORTADDRESSES": "primary,192.0.2.7/24"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := NodePortAddresses{Primary: true, Ranges: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	if diff := cmp.Diff(want, c.NodePortsAt, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("nodePortAddresses (-want +got):\n%s", diff)
	}
	if c.Pool.IsValid() {
		t.Errorf("pool %v, want none", c.Pool)
	}
}

func TestErrors(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"unknown key", "servicCIDR: x", `unknown key "serviccidr"`},
		{"unknown nested key", "etcd: {endpoint: x}", `unknown key "etcd.endpoint"`},
		{"wrong type", "etcd: {endpoints: {a: b}}", "etcd"},
		{"not YAML", "a: b: c", "yaml:"},
		{"cidr", "serviceCIDR: 10.96.0.0", "serviceCIDR: netip.ParsePrefix"},
		{"host bits", "serviceCIDR: 10.96.0.5/16", "did you mean 10.96.0.0/16?"},
		{"three cidrs", "serviceCIDR: 10.96.0.0/16,fd00::/112,10.97.0.0/16", "one for each IP family"},
		{"one family twice", "serviceCIDR: 10.96.0.0/16,10.97.0.0/16", "one for each IP family"},
		{"too small", "serviceCIDR: 10.96.0.0/30", "no room"},
		{"node ports", "nodePortRange: 30000", `nodePortRange: "30000" is not a range of ports, as 30000-32767`},
		{"no node ports", "nodePortRange: 2-1", `nodePortRange: "2-1" has no ports`},
		{"node port addresses", "nodePortAddresses: [eth0]", `"eth0" must be a valid CIDR or one of the keywords 'primary', 'localhost', 'all'`},
		{"pool", "loadBalancer: {pool: 127.240.0.5/24}", "loadBalancer.pool: 127.240.0.5/24 has host bits"},
		{"pool of Services", "loadBalancer: {pool: 10.96.4.0/24}", "loadBalancer.pool: 10.96.4.0/24 overlaps with 10.96.0.0/16, which is in use"},
		{"pool of Pods", "loadBalancer: {pool: 127.244.0.0/24}", "overlaps with 127.244.0.0/16"},
		{"pool of the host", "loadBalancer: {pool: 127.0.0.0/24}", "has the host's own address"},
		{"not loopback", "loopbackCIDR: 10.0.0.0/16", "not a loopback range"},
		{"view", "views: [tun]", `unknown view "tun": loopback or anyip`},
		{"level", "log: {level: loud}", "debug, info, warn or error"},
		{"upstream", "dns: {upstreams: [example.org]}", "dns.upstreams"},
		{"pods", "dns: {pods: some}", `dns.pods "some": disabled, insecure or verified`},
		{"rebind domain", "dns: {rebindDomains: [10.96.0.0/16]}", "dns.rebindDomains \"10.96.0.0/16\""},
		{"host", "api: {hosts: ['*.example.org']}", `api.hosts "*.example.org": neither an address nor a name`},
		{"domain", "clusterDomain: a_b", "clusterDomain"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.file, nil, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}
