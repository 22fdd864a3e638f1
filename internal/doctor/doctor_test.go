package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/types"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/direct"
	"usher/internal/vip"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	now     = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	service = netip.MustParsePrefix("10.96.0.0/16")
	web     = types.NamespacedName{Namespace: "default", Name: "web"}
)

// files are those of a machine on which all is well.
func files() fstest.MapFS {
	return fstest.MapFS{
		"proc/sys/kernel/osrelease":             file("6.18.44\n"),
		"proc/sys/kernel/seccomp/actions_avail": file("kill errno user_notif trace allow\n"),
		"proc/sys/user/max_user_namespaces":     file("1000\n"),
		"etc/resolv.conf":                       link("../run/systemd/resolve/stub-resolv.conf"),
		"run/systemd/resolve/stub-resolv.conf":  file("# by systemd\nnameserver 127.0.0.53\noptions edns0\n"),
		"etc/nsswitch.conf":                     file("passwd: files\nhosts: files mdns4_minimal [NOTFOUND=return] dns\n"),
		"proc/123/limits":                       file("Limit  Soft Limit  Hard Limit  Units\nMax open files            20000                20000                files\n"),
		"proc/net/tcp": file("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
			"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 11 1 0 100 0 0 10 0\n" +
			"   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 22 1 0 100 0 0 10 0\n" +
			"   2: 00000000:1F90 0100007F:0050 01 00000000:00000000 00:00000000 00000000  1000        0 33 1 0 100 0 0 10 0\n"),
	}
}

func file(content string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(content), Mode: 0o644} }

func link(target string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
}

// A fake is a machine on which all is well, with a daemon.
type fake struct {
	Machine
	files    fstest.MapFS
	overlap  error
	leaves   string
	left     []netip.Prefix
	dialErr  error
	changes  []string
	setupErr error
}

func newFake() *fake {
	f := &fake{files: files()}
	f.Machine = Machine{
		Root: f.files, OS: "linux", UID: 1000, Now: now, Version: "v1", Server: "unix:/run/user/1000/usher/usher.sock", TempDir: "/tmp",
		Config: &config.Config{ServiceCIDRs: []netip.Prefix{service}, ClusterDomain: "cluster.local", DataDir: "/state"},
		Daemon: &Daemon{Here: true, Pods: map[types.NamespacedName]bool{web: true}, Status: &api.Status{
			UsherVersion: "v1", NodeName: "node-1", ClusterDomain: "cluster.local", ServiceCIDR: []string{"10.96.0.0/16"}, PID: 123, DataDir: "/state",
			Registry: "embedded etcd unix:///state/etcd.sock: etcd 3.7.3, 20 KiB, leader",
			Views:    []api.ViewStatus{{Name: "loopback", CIDR: "127.96.0.0/16", Nameserver: "127.96.0.10:53"}},
		}},
		Exec:      Exec{Mode: "direct", Why: "connections go straight to backends", Works: true, Modes: "direct, proxy, not private: no anyip view"},
		Ports:     []Port{{8080, "TCP", web}, {53, "UDP", types.NamespacedName{Namespace: "kube-system", Name: "kube-dns"}}},
		FileLimit: 1 << 20,
		Overlap:   func(netip.Prefix) error { return f.overlap },
		Leaves:    func(netip.Addr) (string, error) { return f.leaves, nil },
		LeftBehind: func() ([]netip.Prefix, error) {
			return f.left, nil
		},
		Dial:    func(string) error { return f.dialErr },
		Changes: func() ([]string, error) { return f.changes, f.setupErr },
	}
	return f
}

// noDaemon takes the daemon away.
func (f *fake) noDaemon() {
	f.Daemon, f.DaemonErr = nil, errors.New("the daemon is not running: nobody listens at unix:/x\n  start it: usher serve")
}

// leaveLogs leaves logs, two of them of a Pod that is gone.
func (f *fake) leaveLogs() {
	for name, age := range map[string]time.Duration{"default_web.log": time.Hour, "default_gone.log": time.Hour, "default_gone.log.1": time.Hour, "default_new.log": time.Minute} {
		f.files["state/logs/"+name] = &fstest.MapFile{ModTime: now.Add(-age)}
	}
}

// text puts findings into lines: that of a check, and one for what to do.
func text(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s %s %s\n", f.Check, f.Result, f.Finding)
		if f.Remedy != "" {
			fmt.Fprintf(&b, "  %s\n", f.Remedy)
		}
	}
	return b.String()
}

func TestWell(t *testing.T) {
	const daemon = `daemon PASS usher v1, pid 123, node node-1
daemon PASS embedded etcd unix:///state/etcd.sock: etcd 3.7.3, 20 KiB, leader
`
	const rest = `translation PASS Linux 6.18.44: seccomp's user notification and pidfd_getfd work
namespaces PASS user and mount namespaces can be made, for usher exec --mode private and host, and unshare -Urnm
ports PASS every port is allowed
range PASS 10.96.0.0/16 is used for nothing else
leaks PASS no address of 10.96.0.0/16 leaves this machine
listeners PASS nobody listens on every address of one of the 2 ports of Services
resolver PASS /etc/resolv.conf, a link to ../run/systemd/resolve/stub-resolv.conf, names 127.0.0.53, which is systemd-resolved
`
	const last = `leftovers PASS nothing is left of daemons that are no more
setup PASS usher setup has changed nothing
`
	const configuration = "configuration PASS services in 10.96.0.0/16, domain cluster.local, state in /state\n"
	f := newFake()
	got := Examine(&f.Machine)
	want := daemon + configuration +
		"exec PASS --mode auto takes direct: connections go straight to backends; there is: direct, proxy, not private: no anyip view\n" + rest +
		"files PASS the daemon can have 20000 files open, three quarters of them for listeners, connections and UDP flows\n" + last
	if diff := cmp.Diff(want, text(got)); diff != "" || Failed(got) {
		t.Errorf("with a daemon (-want +got):\n%s", diff)
	}

	f.noDaemon()
	f.Exec.Modes = ""
	got = Examine(&f.Machine)
	want = "daemon WARN the daemon is not running: nobody listens at unix:/x\n  start one: usher serve\n" + configuration +
		"exec PASS once there is a daemon, --mode auto takes direct: connections go straight to backends\n" + rest +
		"files PASS a daemon of this user can have 1048576 files open, three quarters of them for listeners, connections and UDP flows\n" + last
	if diff := cmp.Diff(want, text(got)); diff != "" || Failed(got) {
		t.Errorf("without a daemon (-want +got):\n%s", diff)
	}

	f.OS = "darwin"
	f.files["etc/resolver/cluster.local"] = file("nameserver 127.96.0.10\n")
	for _, finding := range Examine(&f.Machine) {
		switch finding.Check {
		case "translation", "namespaces", "leaks", "listeners":
			t.Errorf("on macOS: %+v", finding)
		case "resolver":
			if want := "/etc/resolver/cluster.local says who knows names of cluster.local"; finding.Finding != want {
				t.Errorf("on macOS: %+v", finding)
			}
		}
	}
}

// TestFindings spoils one thing at a time, and wants to be told of just that.
func TestFindings(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(f *fake)
		want  string // what is not PASS
	}{
		// The daemon.
		{"another version", func(f *fake) { f.Version = "v2" },
			"daemon WARN the daemon is usher v1, and this is usher v2\n  end the daemon and start this one: usher serve\n"},
		{"not ready", func(f *fake) {
			f.Daemon.Ready = errors.New("informer-sync failed: the registry has not been read yet")
			f.Daemon.Status.Conditions = []string{"the registry has not been read yet"}
		}, "daemon FAIL the daemon is not ready: informer-sync failed: the registry has not been read yet\n  see its log; this may pass in a moment\n"},
		{"etcd away", func(f *fake) {
			f.Daemon.Status.Registry = "external etcd a:2379: etcd 3.7.3, 20 KiB; b:2379: context deadline exceeded"
		},
			"daemon FAIL the registry is not well: external etcd a:2379: etcd 3.7.3, 20 KiB; b:2379: context deadline exceeded\n" +
				"  see the log of the daemon; what was read last is served meanwhile\n"},
		{"etcd with an alarm", func(f *fake) { f.Daemon.Status.Registry += ", memberID:1 alarm:NOSPACE " },
			"daemon FAIL the registry is not well: embedded etcd unix:///state/etcd.sock: etcd 3.7.3, 20 KiB, leader, memberID:1 alarm:NOSPACE \n" +
				"  see the log of the daemon; what was read last is served meanwhile\n"},
		{"a condition", func(f *fake) { f.Daemon.Status.Conditions = []string{"service/web -n default: cannot listen"} },
			"daemon WARN service/web -n default: cannot listen\n  see: usher describe svc NAME, or usher explain tcp NAME:PORT\n"},
		{"a daemon that does not answer", func(f *fake) {
			f.noDaemon()
			f.files["state/usher.lock"] = &fstest.MapFile{Data: []byte("77\n"), Sys: &syscall.Stat_t{Ino: 4711}}
			f.files["proc/locks"] = file("1: POSIX  ADVISORY  READ 77 fe:00:4711 128 128\n2: FLOCK  ADVISORY  WRITE 76 fe:00:4711 0 EOF\n3: FLOCK  ADVISORY  WRITE 77 fe:00:4711 0 EOF\n")
		}, "daemon FAIL process 77 has the state directory /state, and no daemon answers at unix:/run/user/1000/usher/usher.sock\n" +
			"  if its socket is elsewhere, name it with --server; otherwise look at its log, and end it: kill 77\n"},
		{"the lock of a dead daemon", func(f *fake) {
			f.noDaemon()
			f.files["state/usher.lock"] = &fstest.MapFile{Data: []byte("77\n"), Sys: &syscall.Stat_t{Ino: 4711}}
			f.files["proc/locks"] = file("2: FLOCK  ADVISORY  WRITE 76 fe:01:4711 0 EOF\n3: FLOCK  ADVISORY  WRITE 77 fe:00:47110 0 EOF\n")
		}, "daemon WARN the daemon is not running: nobody listens at unix:/x\n  start one: usher serve\n"},
		{"a configuration that does not parse", func(f *fake) { f.Config, f.ConfigErr = nil, errors.New(`config /x: unknown key "a"`) },
			`configuration FAIL config /x: unknown key "a"` + "\n  mend it: config.yaml of the repository has every key; without it usher serve does not start\n"},

		// What exec needs.
		{"no mode of exec", func(f *fake) {
			f.Exec = Exec{"private", "connections cannot be translated here: x", false, "not direct"}
		},
			"exec FAIL --mode auto takes private: connections cannot be translated here: x; there is: not direct\n" +
				"  what is missing for each mode: usher exec --mode direct -- true, usher exec --mode private -- true, usher exec --mode host -- true\n"},
		{"nested", func(f *fake) { f.Translate = fmt.Errorf("%w\n  more", direct.ErrNested) },
			"translation WARN Linux 6.18.44: another process decides on the connections of this one already\n  run this one without another usher exec\n"},
		{"an old kernel", func(f *fake) {
			f.Translate = errors.New("invalid argument")
			f.files["proc/sys/kernel/osrelease"] = file("5.15.0-91-generic\n")
		}, "translation WARN Linux 5.15.0-91-generic: invalid argument\n  Linux 5.19 or later, or a network of its own for each program: usher exec --mode private\n"},
		{"no user notification", func(f *fake) {
			f.Translate = errors.New("invalid argument")
			f.files["proc/sys/kernel/seccomp/actions_avail"] = file("kill errno trace allow\n")
		}, "translation WARN Linux 6.18.44: invalid argument\n  a kernel with CONFIG_SECCOMP_FILTER, or a network of its own for each program: usher exec --mode private\n"},
		{"Yama", func(f *fake) {
			f.Translate = errors.New("look into programs: no")
			f.files["proc/sys/kernel/yama/ptrace_scope"] = file("2\n")
		}, "translation WARN Linux 6.18.44: look into programs: no\n  sudo sysctl -w kernel.yama.ptrace_scope=1\n"},
		{"a container", func(f *fake) { f.Translate, f.Private = syscall.EPERM, syscall.EPERM },
			"translation WARN Linux 6.18.44: operation not permitted\n  in a container: a seccomp profile that permits it; otherwise a network of its own for each program: usher exec --mode private\n" +
				"namespaces WARN no namespace can be made, so there is no usher exec --mode private or host: operation not permitted\n  in a container: a seccomp profile that permits unshare and mount\n"},
		{"no user namespaces", func(f *fake) {
			f.Private = syscall.ENOSPC
			f.files["proc/sys/user/max_user_namespaces"] = file("0\n")
		}, "namespaces WARN no namespace can be made, so there is no usher exec --mode private or host: no space left on device\n  sudo sysctl -w user.max_user_namespaces=10000\n"},
		{"Debian of before", func(f *fake) {
			f.Private = syscall.EPERM
			f.files["proc/sys/kernel/unprivileged_userns_clone"] = file("0\n")
		}, "namespaces WARN no namespace can be made, so there is no usher exec --mode private or host: operation not permitted\n  sudo sysctl -w kernel.unprivileged_userns_clone=1\n"},
		{"Ubuntu", func(f *fake) {
			f.Private = syscall.EACCES
			f.files["proc/sys/kernel/apparmor_restrict_unprivileged_userns"] = file("1\n")
		}, "namespaces WARN no namespace can be made, so there is no usher exec --mode private or host: permission denied\n" +
			"  an AppArmor profile for usher that permits userns, or sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0\n"},

		// The network.
		{"low ports", func(f *fake) { f.FirstPort, f.Daemon.Status.Views[0].FirstPort = 1024, 1024 },
			"ports WARN ports under 1024 are opened 8000 higher, 80 as 8080\n  sudo usher setup ports, and start the daemon again; or give it CAP_NET_BIND_SERVICE\n"},
		{"low ports, lifted since", func(f *fake) { f.FirstPort, f.Daemon.Status.Views[0].FirstPort = 53, 1024 },
			"ports WARN ports under 1024 are opened 8000 higher, 80 as 8080; that was so when the daemon was started\n  start the daemon again, as this user\n"},
		{"low ports, lifted", func(f *fake) { f.FirstPort, f.Daemon.Status.Views[0].FirstPort = 53, 53 }, ""},
		{"an overlap", func(f *fake) {
			f.overlap = &vip.OverlapError{Prefix: service, With: []string{"the route 10.0.0.0/8 dev tun0", "the address 10.96.9.1/24 of eth0"}, Free: netip.MustParsePrefix("198.18.0.0/16")}
		}, "range FAIL 10.96.0.0/16 overlaps with the route 10.0.0.0/8 dev tun0, the address 10.96.9.1/24 of eth0: programs under usher exec cannot reach what is there, and there is no anyip view\n" +
			"  set serviceCIDR to another range; 198.18.0.0/16 is free\n"},
		{"no netlink", func(f *fake) { f.overlap = errors.New("list routes: no") },
			"range WARN the routes cannot be looked at: list routes: no\n  see: ip route\n"},
		{"a way out", func(f *fake) { f.leaves = "eth0" },
			"leaks WARN an address of 10.96.0.0/16 that nobody translates leaves this machine by eth0, to whoever has it there\n" +
				"  sudo usher setup route --blackhole; or without --blackhole, for the anyip view\n"},
		{"few files", func(f *fake) { f.files["proc/123/limits"] = file("Max open files 1024 1024 files\n") },
			"files WARN the daemon can have 1024 files open, three quarters of them for listeners, connections and UDP flows\n" +
				"  ulimit -Hn 65536 where it is started, or LimitNOFILE= of its unit\n"},
		{"listeners in the way", func(f *fake) {
			f.files["proc/net/tcp6"] = file("  sl  local_address\n" +
				"   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 44 1 0\n")
			f.files["proc/net/udp"] = file("   sl  local_address\n" +
				"  5: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000  65534        0 55 2 0 0\n" +
				"  6: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000  65534        0 56 2 0 0\n")
			f.files["proc/900/fd/3"] = link("socket:[44]")
			f.files["proc/900/fd/4"] = link("/dev/null")
			f.files["proc/900/comm"] = file("node\n")
		}, "listeners WARN a program of user 65534 listens on every address of port 53/UDP, which service/kube-dns -n kube-system has\n" +
			"  let it listen on one address, such as 127.0.0.1:53, or end it\n" +
			"listeners WARN node (pid 900) listens on every address of port 8080/TCP, which service/web -n default has\n" +
			"  let it listen on one address, such as 127.0.0.1:8080, or end it\n"},
		{"dnsmasq", func(f *fake) {
			f.files["proc/net/udp"] = file("  sl  local_address\n  5: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000  65534        0 55 2 0 0\n")
			f.files["proc/700/fd/4"], f.files["proc/700/comm"] = link("socket:[55]"), file("dnsmasq\n")
		}, "listeners WARN dnsmasq (pid 700) listens on every address of port 53/UDP, which service/kube-dns -n kube-system has\n" +
			"  put bind-interfaces into its configuration\n"},
		{"listeners in another namespace", func(f *fake) {
			f.Daemon.Here = false
			f.files["proc/net/tcp"] = file("  sl  local_address\n   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 44 1 0\n")
		}, ""},

		// Names.
		{"no resolv.conf", func(f *fake) { delete(f.files, "etc/resolv.conf") },
			"resolver WARN /etc/resolv.conf cannot be read: usher exec --mode private and host do not work, and names of others do not resolve\n  make it, if only empty\n"},
		{"no nameserver", func(f *fake) { f.files["etc/resolv.conf"] = file("search example.org\n") },
			"resolver WARN /etc/resolv.conf names no nameserver: names outside cluster.local do not resolve\n  add one, or set dns.upstreams\n"},
		{"a circle", func(f *fake) { f.files["etc/resolv.conf"] = file("nameserver 127.96.0.10\n") },
			"resolver WARN /etc/resolv.conf names 127.96.0.10, and usher's is among them: it would ask itself for names outside cluster.local\n" +
				"  set dns.upstreams to the nameservers of the network\n"},
		{"no circle", func(f *fake) {
			f.files["etc/resolv.conf"] = file("nameserver 127.96.0.10\n")
			f.Config.DNS.Upstreams = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")}
		}, ""},
		{"usher and others", func(f *fake) {
			f.files["etc/resolv.conf"] = file("nameserver 192.0.2.1\nnameserver 127.96.0.10\n")
			f.Config.DNS.Upstreams = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")}
		}, "resolver WARN /etc/resolv.conf names 192.0.2.1,127.96.0.10: musl asks all of them and takes the first answer, which may be that there is no such name\n  name usher's alone\n"},
		{"four nameservers", func(f *fake) {
			f.files["etc/resolv.conf"] = file("nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n")
		}, "resolver WARN /etc/resolv.conf names 192.0.2.1,192.0.2.2,192.0.2.3,192.0.2.4: resolvers use the first 3\n  remove the others\n"},
		{"avahi", func(f *fake) { f.files["etc/nsswitch.conf"] = file("hosts: files mdns4 dns\n") },
			"resolver WARN nsswitch.conf asks mdns4 before dns, and that may answer for every name of .local\n" +
				"  usher exec passes it by; for other programs set clusterDomain to cluster.internal\n"},
		{"avahi after dns", func(f *fake) { f.files["etc/nsswitch.conf"] = file("hosts: files dns mdns4\n") }, ""},
		{"avahi and another domain", func(f *fake) {
			f.files["etc/nsswitch.conf"] = file("hosts: files mdns4 dns\n")
			f.Daemon.Status.ClusterDomain = "cluster.internal"
		}, ""},
		{"macOS", func(f *fake) { f.OS = "darwin" },
			"exec WARN there is no usher exec here: it needs Linux\n  programs use the addresses on loopback: usher get svc -A -o wide\n" +
				"resolver WARN nobody knows names of cluster.local\n  sudo usher setup dns\n"},
		{"no daemon and no translation", func(f *fake) {
			f.noDaemon()
			f.Exec = Exec{Mode: "private", Why: "connections cannot be translated here: x"}
		}, "daemon WARN the daemon is not running: nobody listens at unix:/x\n  start one: usher serve\n" +
			"exec WARN once there is a daemon, --mode auto takes private: connections cannot be translated here: x\n" +
			"  mend what translation or namespaces says\n"},

		// What is left behind.
		{"a socket", func(f *fake) {
			f.noDaemon()
			f.files["run/user/1000/usher/usher.sock"] = &fstest.MapFile{Mode: fs.ModeSocket}
			f.dialErr = syscall.ECONNREFUSED
		}, "daemon WARN the daemon is not running: nobody listens at unix:/x\n  start one: usher serve\n" +
			"leftovers WARN nobody listens at the socket /run/user/1000/usher/usher.sock any more\n  usher serve replaces it; or rm /run/user/1000/usher/usher.sock\n"},
		{"temporary directories", func(f *fake) {
			f.files["tmp/usher-1000-0a1b/etcd.sock"] = &fstest.MapFile{Mode: fs.ModeSocket}
			f.files["tmp/usher-1001-0a1b/etcd.sock"] = &fstest.MapFile{Mode: fs.ModeSocket}
			f.dialErr = syscall.ECONNREFUSED
		}, "leftovers WARN /tmp/usher-1000-0a1b has the socket of an etcd that is no more\n  rm -r /tmp/usher-1000-0a1b\n"},
		{"temporary directories in use", func(f *fake) { f.files["tmp/usher-1000-0a1b/etcd.sock"] = &fstest.MapFile{Mode: fs.ModeSocket} }, ""},
		{"a route", func(f *fake) { f.left = []netip.Prefix{service} },
			"leftovers WARN the route to 10.96.0.0/16 is of a daemon that is no more\n" +
				"  usher serve takes it over; or sudo ip route del local 10.96.0.0/16 table local proto 96\n"},
		{"logs", (*fake).leaveLogs, "leftovers WARN /state/logs has 2 logs of Pods that are gone\n  see the log of the daemon for why it does not remove them; rm does\n"},
		{"logs of a daemon elsewhere", func(f *fake) {
			f.leaveLogs()
			f.Daemon.Here = false
		}, ""},
		{"logs of a daemon that does not list its Pods", func(f *fake) {
			f.leaveLogs()
			f.Daemon.Pods, f.Daemon.Ready = nil, errors.New("pods are not known yet")
		}, "daemon FAIL the daemon is not ready: pods are not known yet\n  see its log; this may pass in a moment\n"},
		{"what setup has changed", func(f *fake) { f.changes = []string{"sysctl a.b"} }, ""},
		{"what setup has changed, for root", func(f *fake) { f.setupErr = fs.ErrPermission }, ""},
		{"a journal that makes no sense", func(f *fake) { f.setupErr = errors.New("read what setup has done: line 2 makes no sense") },
			"setup FAIL read what setup has done: line 2 makes no sense\n  mend the file, or remove it and undo by hand what it says\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			tt.spoil(f)
			var found []Finding
			for _, finding := range Examine(&f.Machine) {
				if finding.Result != Pass {
					found = append(found, finding)
				}
			}
			if diff := cmp.Diff(tt.want, text(found)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if want := strings.Contains(tt.want, " FAIL "); Failed(found) != want {
				t.Errorf("failed: %t", !want)
			}
		})
	}
}
