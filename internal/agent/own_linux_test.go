package agent

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// A server on every address of the machine has the port: a process that does
// not listen is not ready.
func TestRunPortTaken(t *testing.T) {
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := corev1.ContainerPort{ContainerPort: int32(ln.Addr().(*net.TCPAddr).Port), Protocol: corev1.ProtocolTCP}
	r := start(t, Workload{Ports: []corev1.ContainerPort{port}, Command: program("idle")})
	r.await(t, 1, "payment-0 | idle")
	says := fmt.Sprintf("something else answers at %s:%d (a server that listens on every address?)", r.pod("payment-0").Status.PodIP, port.ContainerPort)
	r.await(t, 1, "pod/payment-0: "+says)
	r.await(t, 1, "pod/payment-0 not ready: "+says) // silentFor later
	if got := r.lines("status payment-0 Running ready=true"); len(got) > 0 {
		t.Errorf("got %q", got)
	}
}

// A server that does not look at HOST is ready, and makes no other replica so.
func TestRunListensEverywhere(t *testing.T) {
	r := start(t, Workload{Replicas: 3, Ports: []corev1.ContainerPort{tcpPort(t)}, Command: program("family", "everywhere")})
	r.await(t, 1, "pod/payment-0 ")
	r.await(t, 1, "pod/payment-1 ") // ready, or silentFor later not
	r.await(t, 1, "pod/payment-2 ")
	var listens []string
	for i := range 3 {
		if name := fmt.Sprintf("payment-%d", i); len(r.lines(name+" | listening")) > 0 {
			listens = append(listens, "status "+name+" Running ready=true")
		}
	}
	if len(listens) != 1 {
		t.Fatalf("%q listen, want one", listens)
	}
	var ready []string
	for _, line := range r.lines("status") {
		if strings.HasSuffix(line, "ready=true") {
			ready = append(ready, line)
		}
	}
	if diff := cmp.Diff(listens, ready); diff != "" {
		t.Errorf("ready (-want +got):\n%s", diff)
	}
}

func TestReadListeners(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: %s:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 23451 1 0000000000000000 100 0 0 10 0
   1: %s:0050 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 23452 1 0000000000000000 100 0 0 10 0
`
	tests := map[string]struct {
		address string
		want    string
	}{
		"IPv4":             {"0A01F47F", "127.244.1.10:8080"},
		"every address":    {"00000000", "0.0.0.0:8080"},
		"IPv6":             {"00000000000000000000000001000000", "[::1]:8080"},
		"every address, 6": {"00000000000000000000000000000000", "[::]:8080"},
		"mapped":           {"0000000000000000FFFF00000A01F47F", "127.244.1.10:8080"},
		"nonsense":         {"0A01F47F0A", ""},
		"no address":       {"0A01F47X", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			err := readListeners(strings.NewReader(fmt.Sprintf(table, tt.address, tt.address)), func(local netip.AddrPort, inode uint64) {
				got = append(got, fmt.Sprint(local, " ", inode))
			})
			var want []string
			if tt.want != "" {
				want = []string{tt.want + " 23451"}
			}
			if diff := cmp.Diff(want, got); diff != "" || (err != nil) != (tt.want == "") {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}
