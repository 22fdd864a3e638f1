package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"usher/internal/podlog"
)

// checkLeftovers looks for what a daemon that was killed has left behind.
func checkLeftovers(m *Machine) []Finding {
	var findings []Finding
	if socket, ok := strings.CutPrefix(m.Server, "unix:"); ok && m.Daemon == nil && m.exists(socket) && refused(m.Dial(socket)) {
		findings = append(findings, warn("nobody listens at the socket "+socket+" any more", "usher serve replaces it; or rm "+socket))
	}
	if ranges, err := m.LeftBehind(); err == nil {
		for _, prefix := range ranges {
			findings = append(findings, warn(fmt.Sprintf("the route to %s is of a daemon that is no more", prefix),
				fmt.Sprintf("usher serve takes it over; or sudo ip route del local %s table local proto 96", prefix)))
		}
	}
	findings = append(findings, m.temporaryDirectories()...)
	findings = append(findings, m.logs()...)
	if len(findings) == 0 {
		return pass("nothing is left of daemons that are no more")
	}
	return findings
}

func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// temporaryDirectories looks for those that a daemon has put the socket of its
// etcd into.
func (m *Machine) temporaryDirectories() []Finding {
	prefix := fmt.Sprintf("%s/usher-%d-", m.TempDir, m.UID)
	dirs, err := fs.Glob(m.Root, path(prefix)+"*")
	if err != nil {
		return nil
	}
	var findings []Finding
	for _, dir := range dirs {
		socket := "/" + dir + "/etcd.sock"
		if m.exists(socket) && refused(m.Dial(socket)) {
			findings = append(findings, warn("/"+dir+" has the socket of an etcd that is no more", "rm -r /"+dir))
		}
	}
	return findings
}

// sweptAfter is how long the log of a Pod that is gone may stay: the daemon
// removes it after 10 minutes, when it next looks.
const sweptAfter = 30 * time.Minute

// logs looks for those of Pods that are gone.
func (m *Machine) logs() []Finding {
	// Without a daemon the next one sweeps there. Of one elsewhere the directory is
	// not one of this machine's, or is another daemon's; and who has not said which
	// Pods there are has not said that there are none.
	if m.Daemon == nil || !m.Daemon.Here || m.Daemon.Pods == nil {
		return nil
	}
	dir := podlog.Dir(m.dataDir())
	files, err := fs.ReadDir(m.Root, path(dir))
	if err != nil {
		return nil
	}
	gone := 0
	for _, f := range files {
		pod, ok := podlog.PodOf(f.Name())
		info, err := f.Info()
		if ok && err == nil && m.Now.Sub(info.ModTime()) > sweptAfter && !m.Daemon.Pods[pod] {
			gone++
		}
	}
	if gone == 0 {
		return nil
	}
	return []Finding{warn(fmt.Sprintf("%s has %d logs of Pods that are gone", dir, gone), "see the log of the daemon for why it does not remove them; rm does")}
}

// checkSetup says what usher setup has changed.
func checkSetup(m *Machine) []Finding {
	changes, err := m.Changes()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return pass("what usher setup has changed only root can see")
	case err != nil:
		return []Finding{fail(firstLine(err), "mend the file, or remove it and undo by hand what it says")}
	case len(changes) == 0:
		return pass("usher setup has changed nothing")
	}
	return pass("usher setup has changed: " + strings.Join(changes, ", ") + "; usher teardown undoes it")
}
