// Package doctor looks for what would keep usher from working on a machine, or
// from working as well as it could: `usher doctor`.
//
// A check says what it has found in a line, whether that is well, and in
// another line what to do if not. It changes nothing, connects to nothing but
// the daemon and its sockets, and sends nothing to other machines. The checks
// see the machine through a Machine alone, which a test can make up.
package doctor

import (
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"usher/internal/api"
	"usher/internal/config"
)

// A Result says how a check went.
type Result string

// The results. Warn is for what is missed, Fail for what does not work.
const (
	Pass Result = "PASS"
	Warn Result = "WARN"
	Fail Result = "FAIL"
)

// A Finding is what a check has found.
type Finding struct {
	Check   string `json:"check"`
	Result  Result `json:"result"`
	Finding string `json:"finding"`
	Remedy  string `json:"remedy,omitempty"`
}

// A Machine is what the checks look at.
type Machine struct {
	Root fs.FS  // the root directory
	OS   string // as runtime.GOOS
	UID  int
	Now  time.Time

	Version   string // of this program
	Server    string // where a daemon is asked, as --server has it
	TempDir   string
	Config    *config.Config // of a daemon of this user's
	ConfigErr error          // why it cannot be read

	Daemon    *Daemon // nil: none answers
	DaemonErr error   // why

	Exec      Exec
	Translate error // why connections cannot be translated here, or nil
	Private   error // why exec --mode private and host cannot be had here; or nil

	Ports     []Port // that Services are to be served at
	FirstPort uint16 // the first that this process may open; 0: all
	FileLimit uint64 // how many files a process of this user may have open

	Overlap    func(netip.Prefix) error // why a range cannot be used, an *vip.OverlapError
	Leaves     func(netip.Addr) (string, error)
	LeftBehind func() ([]netip.Prefix, error) // routes of dead daemons
	Dial       func(path string) error        // connects to a unix socket, for a moment
	Changes    func() ([]string, error)       // what usher setup has changed
}

// A Daemon is one that answers.
type Daemon struct {
	Status *api.Status
	Here   bool  // it is in this network namespace
	Ready  error // why it is not ready, or nil

	Pods map[types.NamespacedName]bool // nil: it has not said
}

// Exec says what `usher exec --mode auto` would do, in the words of `usher
// exec` and `usher status`.
type Exec struct {
	Mode  string `json:"mode"`
	Why   string `json:"why"`
	Works bool   `json:"works"`           // some mode does
	Modes string `json:"modes,omitempty"` // what does and what does not; "" without a daemon
}

// A Port is one that the daemon listens on, or will.
type Port struct {
	Number   uint16
	Protocol string // TCP or UDP
	Service  types.NamespacedName
}

// A check looks at one thing.
type check struct {
	name  string
	linux bool // it makes no sense elsewhere
	run   func(m *Machine) []Finding
}

var checks = []check{
	{"daemon", false, checkDaemon},
	{"configuration", false, checkConfiguration},
	{"exec", false, checkExec},
	{"translation", true, checkTranslation},
	{"namespaces", true, checkNamespaces},
	{"ports", false, checkPorts},
	{"range", false, checkRange},
	{"leaks", true, checkLeaks},
	{"listeners", true, checkListeners},
	{"resolver", false, checkResolver},
	{"files", false, checkFiles},
	{"leftovers", false, checkLeftovers},
	{"setup", false, checkSetup},
}

// Examine runs all checks that make sense on the machine.
func Examine(m *Machine) []Finding {
	var findings []Finding
	for _, c := range checks {
		if c.linux && m.OS != "linux" {
			continue
		}
		for _, f := range c.run(m) {
			f.Check = c.name
			findings = append(findings, f)
		}
	}
	return findings
}

// Failed reports whether there is anything that does not work.
func Failed(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Result == Fail })
}

func pass(finding string) []Finding { return []Finding{{Result: Pass, Finding: finding}} }

func warn(finding, remedy string) Finding {
	return Finding{Result: Warn, Finding: finding, Remedy: remedy}
}

func fail(finding, remedy string) Finding {
	return Finding{Result: Fail, Finding: finding, Remedy: remedy}
}

// firstLine returns what is wrong without what to do.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// path returns an absolute path as Root has it.
func path(absolute string) string { return strings.TrimPrefix(filepath.Clean(absolute), "/") }

// read returns the content of a file without white space at its ends, and
// false if it cannot be read.
func (m *Machine) read(absolute string) (string, bool) {
	data, err := fs.ReadFile(m.Root, path(absolute))
	return strings.TrimSpace(string(data)), err == nil
}

func (m *Machine) exists(absolute string) bool {
	_, err := fs.Stat(m.Root, path(absolute))
	return err == nil
}

// ranges returns the ranges of ClusterIPs.
func (m *Machine) ranges() []netip.Prefix {
	var ranges []netip.Prefix
	if m.Daemon != nil {
		for _, text := range m.Daemon.Status.ServiceCIDR {
			if p, err := netip.ParsePrefix(text); err == nil {
				ranges = append(ranges, p)
			}
		}
	} else if m.Config != nil {
		ranges = m.Config.ServiceCIDRs
	}
	return ranges
}

// domain returns the zone of Services.
func (m *Machine) domain() string {
	switch {
	case m.Daemon != nil:
		return m.Daemon.Status.ClusterDomain
	case m.Config != nil:
		return m.Config.ClusterDomain
	}
	return "cluster.local"
}

// dataDir returns where the state of the daemon is.
func (m *Machine) dataDir() string {
	switch {
	case m.Daemon != nil:
		return m.Daemon.Status.DataDir
	case m.Config != nil:
		return m.Config.DataDir
	}
	return ""
}
