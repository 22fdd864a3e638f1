package procnet

import (
	"fmt"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

// line is one of a table.
func line(address, state string, inode int) string {
	return fmt.Sprintf("   0: %s:1F90 00000000:0000 %s 00000000:00000000 00:00000000 00000000  1000        0 %d 1 0000000000000000\n", address, state, inode)
}

func listeners(root fs.FS, protocol string) (got []string, err error) {
	err = EachListener(root, protocol, func(s Socket) { got = append(got, fmt.Sprint(s.Local, " ", s.UID, " ", s.Inode)) })
	return got, err
}

func TestAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"0A01F47F": "127.244.1.10:8080", "00000000": "0.0.0.0:8080",
		"00000000000000000000000001000000": "[::1]:8080", "00000000000000000000000000000000": "[::]:8080",
		"0000000000000000FFFF00000A01F47F": "127.244.1.10:8080", "0A01F47F0A": "", "0A01F47X": "",
	} {
		got, err := listeners(fstest.MapFS{"proc/net/tcp": {Data: []byte(heading + line(address, "0A", 7) + line(address, "01", 8))}}, "tcp")
		var list []string
		if want != "" {
			list = []string{want + " 1000 7"}
		}
		if diff := cmp.Diff(list, got); diff != "" || (err != nil) != (want == "") {
			t.Errorf("%s: %v (-want +got):\n%s", address, err, diff)
		}
	}
}

func TestTables(t *testing.T) {
	const ip = "0100007F"
	root := fstest.MapFS{
		"proc/net/tcp":  {Data: []byte(heading + line(ip, "0A", 1) + line(ip, "06", 2))},
		"proc/net/tcp6": {Data: []byte(heading + line("00000000000000000000000001000000", "0A", 3))},
		"proc/net/udp":  {Data: []byte(heading + line(ip, "01", 4) + line(ip, "07", 5))}, // in no order
	}
	for protocol, want := range map[string][]string{
		"tcp": {"127.0.0.1:8080 1000 1", "[::1]:8080 1000 3"},
		"udp": {"127.0.0.1:8080 1000 5"}, // a kernel without IPv6
	} {
		got, err := listeners(root, protocol)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", protocol, err, diff)
		}
	}
	if _, err := listeners(fstest.MapFS{}, "tcp"); err == nil {
		t.Error("no table, and no error")
	}
	if _, err := listeners(fstest.MapFS{"proc/net/tcp": {Data: []byte(heading + "short\n")}}, "tcp"); err == nil {
		t.Error("no socket, and no error")
	}
}
