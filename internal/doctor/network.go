package doctor

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"usher/internal/setup"
	"usher/internal/vip"
)

// checkPorts looks whether Services can be served at their own ports.
func checkPorts(m *Machine) []Finding {
	first := m.FirstPort
	if m.Daemon != nil {
		first = 0
		for _, v := range m.Daemon.Status.Views {
			first = max(first, v.FirstPort)
		}
	}
	if first <= 1 {
		return pass("every port is allowed")
	}
	if first <= setup.FirstPort {
		return pass(fmt.Sprintf("ports from %d on are allowed", first))
	}
	text := fmt.Sprintf("ports under %d are opened 8000 higher, 80 as 8080", first)
	switch {
	case m.Daemon != nil && m.FirstPort < first:
		return []Finding{warn(text+"; that was so when the daemon was started", "start the daemon again, as this user")}
	case m.OS == "linux":
		return []Finding{warn(text, "sudo usher setup ports, and start the daemon again; or give it CAP_NET_BIND_SERVICE")}
	}
	return []Finding{warn(text, "run the daemon as root")}
}

// checkRange looks whether the ClusterIPs are anybody else's: another network,
// or that of a VPN.
func checkRange(m *Machine) []Finding {
	var findings []Finding
	for _, prefix := range m.ranges() {
		err := m.Overlap(prefix)
		overlap, ok := errors.AsType[*vip.OverlapError](err)
		switch {
		case err == nil:
			findings = append(findings, pass(fmt.Sprintf("%s is used for nothing else", prefix))...)
		case ok:
			remedy := "set serviceCIDR to another range"
			if overlap.Free.IsValid() {
				remedy += fmt.Sprintf("; %s is free", overlap.Free)
			}
			findings = append(findings, fail(fmt.Sprintf("%s overlaps with %s: programs under usher exec cannot reach what is there, and there is no anyip view",
				prefix, strings.Join(overlap.With, ", ")), remedy))
		default:
			findings = append(findings, warn("the routes cannot be looked at: "+firstLine(err), "see: ip route"))
		}
	}
	return findings
}

// checkLeaks looks where an address goes that nobody translates.
func checkLeaks(m *Machine) []Finding {
	var findings []Finding
	for _, prefix := range m.ranges() {
		device, err := m.Leaves(prefix.Addr().Next())
		switch {
		case err != nil:
			findings = append(findings, warn("the routes cannot be looked at: "+firstLine(err), "see: ip route"))
		case device != "":
			findings = append(findings, warn(fmt.Sprintf("an address of %s that nobody translates leaves this machine by %s, to whoever has it there", prefix, device),
				"sudo usher setup route --blackhole; or without --blackhole, for the anyip view"))
		default:
			findings = append(findings, pass(fmt.Sprintf("no address of %s leaves this machine", prefix))...)
		}
	}
	return findings
}

// fewFiles is what nobody wants to live with: as many as a process had in times
// of select(2), and some.
const fewFiles = 4096

// checkFiles looks how many sockets the daemon can have.
func checkFiles(m *Machine) []Finding {
	limit, whose := m.FileLimit, "a daemon of this user"
	if m.Daemon != nil && m.Daemon.Here {
		if soft, ok := m.fileLimitOf(m.Daemon.Status.PID); ok {
			limit, whose = soft, "the daemon"
		}
	}
	if limit > math.MaxInt64/2 {
		return pass(whose + " can have any number of files open")
	}
	text := fmt.Sprintf("%s can have %d files open, three quarters of them for listeners, connections and UDP flows", whose, limit)
	if limit < fewFiles {
		return []Finding{warn(text, "ulimit -Hn 65536 where it is started, or LimitNOFILE= of its unit")}
	}
	return pass(text)
}

// fileLimitOf returns the limit of another process.
func (m *Machine) fileLimitOf(pid int) (uint64, bool) {
	text, _ := m.read(fmt.Sprintf("/proc/%d/limits", pid))
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok && len(strings.Fields(rest)) > 0 {
			n, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// nameservers returns the nameservers of the daemon's Views.
func (m *Machine) nameservers() map[netip.Addr]bool {
	own := make(map[netip.Addr]bool)
	if m.Daemon != nil {
		for _, v := range m.Daemon.Status.Views {
			if a, err := netip.ParseAddrPort(v.Nameserver); err == nil {
				own[a.Addr()] = true
			}
		}
	}
	return own
}
