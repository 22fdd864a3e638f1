package doctor

import (
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// checkDaemon looks whether there is a daemon, and whether it is well.
func checkDaemon(m *Machine) []Finding {
	if m.Daemon == nil {
		if pid := m.lockHolder(); pid != "" {
			return []Finding{fail(fmt.Sprintf("process %s has the state directory %s, and no daemon answers at %s", pid, m.dataDir(), m.Server),
				"if its socket is elsewhere, name it with --server; otherwise look at its log, and end it: kill "+pid)}
		}
		return []Finding{warn(firstLine(m.DaemonErr), "start one: usher serve")}
	}
	s := m.Daemon.Status
	findings := pass(fmt.Sprintf("usher %s, pid %d, node %s", s.UsherVersion, s.PID, s.NodeName))
	if s.UsherVersion != m.Version {
		findings = []Finding{warn(fmt.Sprintf("the daemon is usher %s, and this is usher %s", s.UsherVersion, m.Version), "end the daemon and start this one: usher serve")}
	}
	if m.Daemon.Ready != nil {
		findings = append(findings, fail("the daemon is not ready: "+firstLine(m.Daemon.Ready), "see its log; this may pass in a moment"))
	}
	if healthy(s.Registry) {
		findings = append(findings, pass(s.Registry)...)
	} else {
		findings = append(findings, fail("the registry is not well: "+s.Registry, "see the log of the daemon; what was read last is served meanwhile"))
	}
	for _, c := range s.Conditions {
		if m.Daemon.Ready == nil || !strings.HasSuffix(m.Daemon.Ready.Error(), c) {
			findings = append(findings, warn(c, "see: usher describe svc NAME, or usher explain tcp NAME:PORT"))
		}
	}
	return findings
}

// healthy reports whether a line about etcd says that every endpoint has
// answered: with its version and the size of its data.
func healthy(registry string) bool {
	for endpoint := range strings.SplitSeq(registry, "; ") {
		_, facts, ok := strings.Cut(endpoint, ": etcd ")
		if !ok || strings.Contains(facts, "alarm") || strings.Contains(facts, "no leader") {
			return false
		}
	}
	return true
}

// lockHolder returns the process that has the state directory, or "". It looks
// without taking the lock, which a daemon may want at this moment.
func (m *Machine) lockHolder() string {
	file := m.dataDir() + "/usher.lock"
	owner, readable := m.read(file)
	info, err := fs.Stat(m.Root, path(file))
	if !readable || err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	locks, readable := m.read("/proc/locks")
	if !ok || !readable {
		return ""
	}
	for line := range strings.Lines(locks) {
		// 1: FLOCK ADVISORY WRITE 1234 fe:00:5678 0 EOF
		fields := strings.Fields(line)
		if len(fields) > 5 && fields[1] == "FLOCK" && fields[4] == owner && strings.HasSuffix(fields[5], fmt.Sprintf(":%d", st.Ino)) {
			return owner
		}
	}
	return ""
}

// checkConfiguration looks whether a daemon could read its configuration.
func checkConfiguration(m *Machine) []Finding {
	if m.ConfigErr != nil {
		return []Finding{fail(firstLine(m.ConfigErr), "mend it: config.yaml of the repository has every key; without it usher serve does not start")}
	}
	return pass(fmt.Sprintf("services in %s, domain %s, state in %s", join(m.Config.ServiceCIDRs), m.Config.ClusterDomain, m.Config.DataDir))
}

func join[T fmt.Stringer](list []T) string {
	var texts []string
	for _, v := range list {
		texts = append(texts, v.String())
	}
	return strings.Join(texts, ",")
}

// checkExec says which mode exec takes by itself.
func checkExec(m *Machine) []Finding {
	text := fmt.Sprintf("--mode auto takes %s: %s", m.Exec.Mode, m.Exec.Why)
	if m.Exec.Modes != "" {
		text += "; there is: " + m.Exec.Modes
	}
	switch {
	case m.OS != "linux":
		return []Finding{warn("there is no usher exec here: it needs Linux", "programs use the addresses on loopback: usher get svc -A -o wide")}
	case m.Daemon == nil && !m.Exec.Works:
		return []Finding{warn("once there is a daemon, "+text, "mend what translation or namespaces says")}
	case m.Daemon == nil:
		return pass("once there is a daemon, " + text)
	case !m.Exec.Works:
		return []Finding{fail(text, "what is missing for each mode: usher exec --mode direct -- true, usher exec --mode private -- true, usher exec --mode host -- true")}
	}
	return pass(text)
}
