package netenv

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"usher/registry"
)

// Limits of a search path: those of Kubernetes (core validation, KEP-2595),
// which resolvers share. What is over them is left out from the end.
const (
	maxSearchDomains = 32
	maxSearchChars   = 2048
)

// resolvConf returns the program's resolv.conf, given that of the host. Of
// that only the search path is kept: other nameservers would give other
// answers, and its options are not meant for this one (Kubernetes does the
// same for dnsPolicy ClusterFirst).
func (o Options) resolvConf(host []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "nameserver %s\n", o.Nameserver)
	if search := searchPath(o.Search, hostSearch(host)); len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	fmt.Fprintf(&b, "options ndots:%d\n", registry.Ndots)
	return b.Bytes()
}

// searchPath joins search paths within the limits, each domain once.
func searchPath(paths ...[]string) []string {
	var search []string
	chars := 0
	for _, domain := range slices.Concat(paths...) {
		domain = strings.TrimSuffix(domain, ".")
		if domain == "" || slices.Contains(search, domain) {
			continue
		}
		if chars += len(domain) + 1; len(search) == maxSearchDomains || chars-1 > maxSearchChars {
			break
		}
		search = append(search, domain)
	}
	return search
}

// hostSearch returns the search path of a resolv.conf. The last search or
// domain line counts (resolv.conf(5)).
func hostSearch(resolvConf []byte) []string {
	var search []string
	for line := range strings.Lines(string(resolvConf)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "search":
			search = fields[1:]
		case "domain":
			search = fields[1:2]
		}
	}
	return search
}

// hostsLine sends host names to files and then to DNS. Other services, as
// resolve and mdns, ask daemons by a socket and pass resolv.conf by.
const hostsLine = "hosts: files dns"

// nsswitchConf returns the program's nsswitch.conf, given that of the host:
// the same for all databases but hosts.
func nsswitchConf(host []byte) []byte {
	var b bytes.Buffer
	b.WriteString(hostsLine + "\n")
	for line := range strings.Lines(string(host)) {
		if database, _, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(database) == "hosts" {
			continue
		}
		b.WriteString(line)
	}
	return b.Bytes()
}
