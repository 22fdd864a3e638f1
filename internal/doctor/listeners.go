package doctor

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"usher/internal/procnet"
)

// A listener is a socket that listens on every address.
type listener struct {
	port     uint16
	protocol string
	uid      string
	inode    uint64
}

// checkListeners looks for programs that listen on every address of a port that
// a Service has: it cannot be listened on at one address then.
func checkListeners(m *Machine) []Finding {
	if m.Daemon != nil && !m.Daemon.Here {
		return pass("not looked at: the daemon is in another network namespace than this one")
	}
	wanted := make(map[listener]Port)
	for _, p := range m.Ports {
		wanted[listener{port: p.Number, protocol: p.Protocol}] = p
	}
	var inTheWay []listener
	for _, l := range m.wildcards() {
		if _, ok := wanted[listener{port: l.port, protocol: l.protocol}]; ok {
			inTheWay = append(inTheWay, l)
		}
	}
	if len(inTheWay) == 0 {
		return pass(fmt.Sprintf("nobody listens on every address of one of the %d ports of Services", len(wanted)))
	}
	owners := m.socketOwners(inTheWay)
	var findings []Finding
	seen := make(map[string]bool)
	for _, l := range inTheWay {
		p := wanted[listener{port: l.port, protocol: l.protocol}]
		who := cmp.Or(owners[l.inode], "a program of user "+l.uid)
		text := fmt.Sprintf("%s listens on every address of port %d/%s, which service/%s -n %s has", who, l.port, l.protocol, p.Service.Name, p.Service.Namespace)
		if !seen[text] { // it may have a socket for each family
			seen[text] = true
			remedy := fmt.Sprintf("let it listen on one address, such as 127.0.0.1:%d, or end it", l.port)
			if strings.HasPrefix(who, "dnsmasq ") {
				remedy = "put bind-interfaces into its configuration"
			}
			findings = append(findings, warn(text, remedy))
		}
	}
	return findings
}

// wildcards returns the sockets that listen on every address.
func (m *Machine) wildcards() []listener {
	var list []listener
	for _, protocol := range []string{"tcp", "udp"} {
		// A table that cannot be read is one of those who cannot be in the way.
		_ = procnet.EachListener(m.Root, protocol, func(s procnet.Socket) {
			if s.Local.Addr().IsUnspecified() {
				list = append(list, listener{s.Local.Port(), strings.ToUpper(protocol), s.UID, s.Inode})
			}
		})
	}
	slices.SortStableFunc(list, func(a, b listener) int { return cmp.Compare(a.port, b.port) })
	return list
}

// socketOwners returns the programs that have sockets, by inode, as far as this
// user may know.
func (m *Machine) socketOwners(sockets []listener) map[uint64]string {
	wanted := make(map[string]uint64)
	for _, l := range sockets {
		wanted[fmt.Sprintf("socket:[%d]", l.inode)] = l.inode
	}
	found := make(map[uint64][]string)
	processes, _ := fs.ReadDir(m.Root, "proc")
	for _, process := range processes {
		pid := process.Name()
		if _, err := strconv.Atoi(pid); err != nil {
			continue
		}
		fds, _ := fs.ReadDir(m.Root, "proc/"+pid+"/fd") // of other users' not
		for _, fd := range fds {
			target, err := fs.ReadLink(m.Root, "proc/"+pid+"/fd/"+fd.Name())
			if inode, ok := wanted[target]; err == nil && ok {
				program, _ := m.read("/proc/" + pid + "/comm")
				found[inode] = append(found[inode], fmt.Sprintf("%s (pid %s)", program, pid))
			}
		}
	}
	owners := make(map[uint64]string)
	for inode := range maps.Keys(found) {
		owners[inode] = strings.Join(slices.Compact(found[inode]), ", ")
	}
	return owners
}
