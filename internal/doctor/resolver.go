package doctor

import (
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
)

// Resolvers use no more nameservers than these (resolv.conf(5)).
const maxNameservers = 3

// checkResolver looks how names are resolved on this machine.
func checkResolver(m *Machine) []Finding {
	if m.OS == "darwin" {
		file := "/etc/resolver/" + m.domain()
		if m.exists(file) {
			return pass(file + " says who knows names of " + m.domain())
		}
		return []Finding{warn("nobody knows names of "+m.domain(), "sudo usher setup dns")}
	}
	findings := m.checkResolvConf()
	if service, ok := m.hostsService(); ok {
		findings = append(findings, warn(fmt.Sprintf("nsswitch.conf asks %s before dns, and that may answer for every name of .local", service),
			"usher exec passes it by; for other programs set clusterDomain to cluster.internal"))
	}
	if m.exists("/run/nscd/socket") || m.exists("/var/run/nscd/socket") {
		findings = append(findings, pass("nscd answers out of its cache; usher exec passes it by")...)
	}
	return findings
}

func (m *Machine) checkResolvConf() []Finding {
	const file = "/etc/resolv.conf"
	text, ok := m.read(file)
	if !ok {
		return []Finding{warn(file+" cannot be read: usher exec --mode private and host do not work, and names of others do not resolve", "make it, if only empty")}
	}
	var servers []netip.Addr
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "nameserver" {
			if addr, err := netip.ParseAddr(fields[1]); err == nil {
				servers = append(servers, addr)
			}
		}
	}
	whose := file
	if target, err := fs.ReadLink(m.Root, path(file)); err == nil {
		whose += ", a link to " + target + ","
	}
	text = fmt.Sprintf("%s names %s", whose, join(servers))
	own := m.nameservers()
	i := slices.IndexFunc(servers, func(a netip.Addr) bool { return own[a] })
	switch {
	case len(servers) == 0:
		return []Finding{warn(whose+" names no nameserver: names outside "+m.domain()+" do not resolve", "add one, or set dns.upstreams")}
	case i >= 0 && (m.Config == nil || len(m.Config.DNS.Upstreams) == 0):
		return []Finding{warn(text+", and usher's is among them: it would ask itself for names outside "+m.domain(), "set dns.upstreams to the nameservers of the network")}
	case i >= 0 && len(servers) > 1:
		return []Finding{warn(text+": musl asks all of them and takes the first answer, which may be that there is no such name", "name usher's alone")}
	case len(servers) > maxNameservers:
		return []Finding{warn(text+fmt.Sprintf(": resolvers use the first %d", maxNameservers), "remove the others")}
	case slices.ContainsFunc(servers, isResolved):
		text += ", which is systemd-resolved"
	}
	return pass(text)
}

// isResolved reports whether a nameserver is the stub of systemd-resolved.
func isResolved(a netip.Addr) bool {
	return a == netip.AddrFrom4([4]byte{127, 0, 0, 53}) || a == netip.AddrFrom4([4]byte{127, 0, 0, 54})
}

// hostsService returns the service of nsswitch.conf that takes names of .local
// for itself, if the cluster domain is below that and dns is asked later. The
// minimal variants take names of two labels alone.
func (m *Machine) hostsService() (string, bool) {
	if !strings.HasSuffix("."+m.domain(), ".local") {
		return "", false
	}
	text, _ := m.read("/etc/nsswitch.conf")
	for line := range strings.Lines(text) {
		services, ok := strings.CutPrefix(strings.TrimSpace(line), "hosts:")
		if !ok {
			continue
		}
		for service := range strings.FieldsSeq(services) {
			switch service {
			case "dns":
				return "", false
			case "mdns", "mdns4", "mdns6":
				return service, true
			}
		}
	}
	return "", false
}
