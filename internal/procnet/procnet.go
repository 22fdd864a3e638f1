// Package procnet reads the kernel's tables of sockets, /proc/net/tcp and its
// kin (proc(5)).
package procnet

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Socket is one that has no peer: it listens or, in UDP, receives from
// anybody.
type Socket struct {
	Local netip.AddrPort // an IPv4-mapped address is IPv4
	UID   string
	Inode uint64
}

// The states of such sockets (net/tcp_states.h): TCP_LISTEN, and in UDP
// TCP_CLOSE.
const (
	stateListen = "0A"
	stateClose  = "07"
)

// EachListener calls each with the sockets of a protocol, "tcp" or "udp", of both
// families. root is the root directory.
func EachListener(root fs.FS, protocol string, each func(Socket)) error {
	state := stateListen
	if protocol == "udp" {
		state = stateClose
	}
	for _, table := range []string{"proc/net/" + protocol, "proc/net/" + protocol + "6"} {
		f, err := root.Open(table)
		if errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(table, "6") {
			continue // a kernel without IPv6
		}
		if err != nil {
			return err
		}
		err = read(f, state, each)
		f.Close()
		if err != nil {
			return fmt.Errorf("read /%s: %w", table, err)
		}
	}
	return nil
}

// read reads the sockets in a state out of a table. Of those of TCP the ones that
// listen come first, so that the connections of a busy machine cost nothing.
func read(r io.Reader, want string, each func(Socket)) error {
	const local, state, uid, inode = 1, 3, 7, 9 // fields
	lines := bufio.NewScanner(r)
	lines.Scan() // the heading
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) <= inode {
			return fmt.Errorf("%q is no socket", lines.Text())
		}
		if fields[state] != want {
			if want == stateListen {
				break
			}
			continue
		}
		addr, err := parseAddress(fields[local])
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(fields[inode], 10, 64)
		if err != nil {
			return err
		}
		each(Socket{addr, fields[uid], n})
	}
	return lines.Err()
}

// parseAddress reads an address of such a table: words of 32 bits in the
// machine's order, and the port.
func parseAddress(s string) (netip.AddrPort, error) {
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
