package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"usher/internal/procnet"
)

// root is where the kernel's tables are.
var root = os.DirFS("/")

// whoListens returns the TCP sockets that answer at addr. As in the kernel,
// those that are bound to it come before those that are bound to nothing.
func whoListens(addr netip.AddrPort) (listening, error) {
	exact, any := listening{exact: true}, listening{}
	err := procnet.EachListener(root, "tcp", func(s procnet.Socket) {
		switch {
		case s.Local == addr:
			exact.inodes = append(exact.inodes, s.Inode)
		case s.Local.Port() == addr.Port() && s.Local.Addr().IsUnspecified():
			any.inodes = append(any.inodes, s.Inode)
		}
	})
	if err != nil || len(exact.inodes) > 0 {
		return exact, err
	}
	return any, nil
}

// listensAt returns the ports of an address at which somebody listens or, in
// UDP, receives from anybody.
func listensAt(addr netip.Addr) (tcp, udp []uint16, err error) {
	for table, ports := range map[string]*[]uint16{"tcp": &tcp, "udp": &udp} {
		err := procnet.EachListener(root, table, func(s procnet.Socket) {
			if s.Local.Addr() == addr {
				*ports = append(*ports, s.Local.Port())
			}
		})
		if err != nil {
			return nil, nil, err
		}
		slices.Sort(*ports)
		*ports = slices.Compact(*ports) // SO_REUSEPORT
	}
	return tcp, udp, nil
}

// hasSocket reports whether one of the sockets is open in a process of leader's
// family. That is not known if one of them cannot be looked into, such as a
// setuid program, and none of the others has it.
func hasSocket(leader int, inodes []uint64) (has, known bool) {
	known = true
	for _, pid := range family(leader) {
		dir := fmt.Sprintf("/proc/%d/fd/", pid)
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrPermission) {
			known = false
		}
		for _, e := range entries {
			target, _ := os.Readlink(dir + e.Name()) // "" for one that is closed
			s, ok := strings.CutPrefix(target, "socket:[")
			if !ok {
				continue
			}
			inode, _ := strconv.ParseUint(strings.TrimSuffix(s, "]"), 10, 64)
			if slices.Contains(inodes, inode) {
				return true, true
			}
		}
	}
	return false, known
}

// family returns the processes of leader's process group and their
// descendants.
func family(leader int) []int {
	type relatives struct{ parent, group int }
	all := make(map[int]relatives)
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, _ := os.ReadFile("/proc/" + e.Name() + "/stat")
		var r relatives
		var state string
		// The name of the program may have anything in it.
		rest := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
		if _, err := fmt.Sscan(rest, &state, &r.parent, &r.group); err == nil {
			all[pid] = r
		}
	}
	var found []int
	for pid := range all {
		ancestor := pid
		for range len(all) { // the table is not of one moment
			r, ok := all[ancestor]
			if !ok {
				break
			}
			if r.group == leader {
				found = append(found, pid)
				break
			}
			ancestor = r.parent
		}
	}
	return found
}
