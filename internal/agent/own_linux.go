package agent

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// whoListens returns the TCP sockets that answer at addr. As in the kernel,
// those that are bound to it come before those that are bound to nothing.
func whoListens(addr netip.AddrPort) (listening, error) {
	exact, any := listening{exact: true}, listening{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if errors.Is(err, fs.ErrNotExist) && table != "/proc/net/tcp" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return listening{}, err
		}
		err = readListeners(f, func(local netip.AddrPort, inode uint64) {
			switch {
			case local == addr:
				exact.inodes = append(exact.inodes, inode)
			case local.Port() == addr.Port() && local.Addr().IsUnspecified():
				any.inodes = append(any.inodes, inode)
			}
		})
		f.Close()
		if err != nil {
			return listening{}, fmt.Errorf("read %s: %w", table, err)
		}
	}
	if len(exact.inodes) > 0 {
		return exact, nil
	}
	return any, nil
}

// readListeners reads a table of TCP sockets. Those that listen come first, so
// that the connections of a busy machine cost nothing.
func readListeners(r io.Reader, each func(local netip.AddrPort, inode uint64)) error {
	const (
		local, state, inode = 1, 3, 9 // fields
		listen              = "0A"
	)
	lines := bufio.NewScanner(r)
	lines.Scan() // the heading
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) <= inode {
			return fmt.Errorf("%q is no socket", lines.Text())
		}
		if fields[state] != listen {
			break
		}
		addr, err := parseSocketAddress(fields[local])
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(fields[inode], 10, 64)
		if err != nil {
			return err
		}
		each(addr, n)
	}
	return lines.Err()
}

// parseSocketAddress reads an address of such a table: words of 32 bits in the
// machine's order, and the port.
func parseSocketAddress(s string) (netip.AddrPort, error) {
	words, port, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var raw []byte
	for word := range slices.Chunk([]byte(words), 8) {
		w, err := strconv.ParseUint(string(word), 16, 32)
		if err != nil {
			return netip.AddrPort{}, err
		}
		raw = binary.NativeEndian.AppendUint32(raw, uint32(w))
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", s)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), nil
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
