//go:build amd64 || arm64

package direct

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// isolated reports whether the tests run in a network namespace of their own:
// what they dial cannot leave.
func isolated() bool { return os.Getenv(stageEnv) == "inside" }

// enterNamespace runs this binary again in a network namespace with nothing
// but lo, and without any capability unless root runs the tests.
func enterNamespace() {
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "enter a namespace:", err)
			os.Exit(1)
		}
	}
	switch os.Getenv(stageEnv) {
	case "inside":
		return
	case "outside":
		runtime.LockOSThread() // capabilities belong to a thread
		lo, err := netlink.LinkByName("lo")
		must(err)
		must(netlink.LinkSetUp(lo))
		if err := errors.Join(wayOut(), slowWay()); err != nil {
			fmt.Fprintln(os.Stderr, "no default route here, tests that need one will be skipped:", err)
		}
		// Nameservers are at port 53, for ordinary users too.
		must(os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0))
		must(unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
		must(os.Setenv(stageEnv, "inside"))
		must(syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stageEnv+"=outside")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN}
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "no namespaces here, tests that need one will be skipped:", err)
		return
	}
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(exit.ExitCode())
	}
	must(err)
	os.Exit(0)
}

// outside is the device of the default route: what is sent there is counted at
// its other end, and comes to nobody.
const outside = "outside"

// wayOut makes it, without ARP and without an address of IPv6: the kernel sends
// nothing of itself.
func wayOut() error {
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: outside}, PeerName: "counter"}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("add a pair of devices: %w", err)
	}
	link, err := netlink.LinkByName(outside)
	if err != nil {
		return err
	}
	peer, err := netlink.LinkByName("counter")
	if err != nil {
		return err
	}
	const none = "1" // in_addr_gen_mode: no address of the link
	if err := errors.Join(setIPv6("counter", "disable_ipv6", "1"), setIPv6(outside, "addr_gen_mode", none), setIPv6(outside, "accept_ra", "0")); err != nil {
		return err
	}
	addr, err := netlink.ParseAddr("192.0.2.1/24")
	if err != nil {
		return err
	}
	addr6, err := netlink.ParseAddr("2001:db8::1/128")
	if err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	_, everything, _ := net.ParseCIDR("::/0")
	return errors.Join(netlink.LinkSetARPOff(link), netlink.LinkSetARPOff(peer), netlink.AddrAdd(link, addr), netlink.AddrAdd(lo, addr6),
		netlink.LinkSetUp(link), netlink.LinkSetUp(peer),
		netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.IPv4(192, 0, 2, 2)}),
		netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: everything}))
}

// setIPv6 sets a parameter of a device.
func setIPv6(device, parameter, value string) error {
	return os.WriteFile("/proc/sys/net/ipv6/conf/"+device+"/"+parameter, []byte(value), 0)
}

// slowWay makes a device on which nobody answers ARP: what is sent to slowly
// stays in the socket until the kernel gives up, 600 ms later.
func slowWay() error {
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "slow"}, PeerName: "slow-end"}); err != nil {
		return fmt.Errorf("add a pair of devices: %w", err)
	}
	link, err := netlink.LinkByName("slow")
	if err != nil {
		return err
	}
	peer, err := netlink.LinkByName("slow-end")
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr("198.51.100.1/24")
	if err != nil {
		return err
	}
	return errors.Join(setIPv6("slow", "disable_ipv6", "1"), setIPv6("slow-end", "disable_ipv6", "1"),
		netlink.LinkSetARPOff(peer), netlink.AddrAdd(link, addr), netlink.LinkSetUp(link), netlink.LinkSetUp(peer),
		os.WriteFile("/proc/sys/net/ipv4/neigh/slow/retrans_time_ms", []byte("200"), 0))
}

// slowly returns an address on that device.
func slowly(host int) string { return fmt.Sprintf("198.51.100.%d:9", host) }

// sentOutside returns how many packets have taken the default route.
func sentOutside(t testing.TB) uint64 {
	t.Helper()
	link, err := netlink.LinkByName("counter")
	if err != nil {
		t.Skipf("SKIP: no default route here: %v", err)
	}
	return link.Attrs().Statistics.RxPackets
}
