package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"usher/internal/vip"
)

// A Place is what a Change is about.
type Place struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// The kinds of places, and what their names and states are.
const (
	kindFile      = "file"      // a path; the content
	kindDirectory = "directory" // a path; "" if it is there
	kindSysctl    = "sysctl"    // with dots; the value
	kindRoute     = "route"     // a range; the route as `ip route` has it
	kindBlackhole = "blackhole" // the same
)

func (p Place) String() string { return p.Kind + " " + p.Name }

// A state reads and writes the state of a place.
type state interface {
	read() (*string, error)
	write(*string) error
}

// in returns the place on a machine.
func (p Place) in(m *Machine) state {
	switch p.Kind {
	case kindFile:
		return fileState(filepath.Join(m.Root, p.Name))
	case kindDirectory:
		return directoryState(filepath.Join(m.Root, p.Name))
	case kindSysctl:
		return sysctlState(filepath.Join(m.Root, "/proc/sys", strings.ReplaceAll(p.Name, ".", "/")))
	case kindRoute, kindBlackhole:
		if prefix, err := netip.ParsePrefix(p.Name); err == nil {
			return routeState{vip.FixedRoute{Prefix: prefix, Blackhole: p.Kind == kindBlackhole}}
		}
	}
	return unknownState{p}
}

// script returns the command that brings the place into a state, for people
// and for a shell, with the commands to be run then.
func (c Change) script(to *string) string {
	var lines []string
	switch {
	case c.Kind == kindFile && to != nil:
		text := *to
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n" // EOF has to begin a line
		}
		lines = append(lines, fmt.Sprintf("cat >%s <<'EOF'\n%sEOF", c.Name, text))
	case c.Kind == kindFile:
		lines = append(lines, "rm "+c.Name)
	case c.Kind == kindDirectory && to != nil:
		lines = append(lines, "mkdir "+c.Name)
	case c.Kind == kindDirectory:
		lines = append(lines, "rmdir "+c.Name)
	case c.Kind == kindSysctl && to != nil:
		lines = append(lines, fmt.Sprintf("sysctl -w %s=%s", c.Name, *to))
	case to != nil:
		lines = append(lines, c.ipRoute("add", *to))
	case c.After != nil:
		lines = append(lines, c.ipRoute("del", *c.After))
	}
	for _, command := range c.Then {
		lines = append(lines, strings.Join(command, " "))
	}
	return strings.Join(lines, "\n")
}

func (c Change) ipRoute(verb, route string) string {
	if strings.Contains(c.Name, ":") {
		return "ip -6 route " + verb + " " + route
	}
	return "ip route " + verb + " " + route
}

// A fileState is a file: another one takes its place, whole.
type fileState string

func (f fileState) read() (*string, error) {
	info, err := os.Lstat(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", string(f))
	}
	data, err := os.ReadFile(string(f))
	text := string(data)
	return &text, err
}

func (f fileState) write(to *string) error {
	if to == nil {
		return errors.Join(os.Remove(string(f)), syncDir(filepath.Dir(string(f))))
	}
	mode := fs.FileMode(0o644) // for programs of every user to read
	if info, err := os.Lstat(string(f)); err == nil {
		mode = info.Mode().Perm()
	}
	dir := filepath.Dir(string(f))
	temporary, err := os.CreateTemp(dir, ".usher-*")
	if err != nil {
		return err
	}
	_, err = temporary.WriteString(*to)
	err = errors.Join(err, temporary.Chmod(mode), temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), string(f))
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return syncDir(dir)
}

// syncDir brings what a directory has onto the disk.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// A directoryState is a directory: there, or not.
type directoryState string

// errNotEmpty says that somebody else uses a directory by now.
var errNotEmpty = errors.New("the directory is not empty")

func (d directoryState) read() (*string, error) {
	info, err := os.Stat(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", string(d))
	}
	return new(string), nil
}

func (d directoryState) write(to *string) error {
	if to != nil {
		return os.Mkdir(string(d), 0o755)
	}
	err := os.Remove(string(d))
	if errors.Is(err, syscall.ENOTEMPTY) {
		return errNotEmpty
	}
	return err
}

// A sysctlState is a file below /proc/sys.
type sysctlState string

func (s sysctlState) read() (*string, error) {
	data, err := os.ReadFile(string(s))
	if err != nil {
		return nil, err
	}
	text := strings.TrimSpace(string(data))
	return &text, nil
}

func (s sysctlState) write(to *string) error {
	if to == nil {
		return errors.New("a sysctl cannot be removed")
	}
	f, err := os.OpenFile(string(s), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(*to + "\n")
	return errors.Join(err, f.Close())
}

// A routeState is a route, there or not.
type routeState struct{ vip.FixedRoute }

func (r routeState) read() (*string, error) {
	text, err := r.Find()
	if err != nil || text == "" {
		return nil, err
	}
	return &text, nil
}

func (r routeState) write(to *string) error {
	if to == nil {
		return r.Remove()
	}
	return r.Add()
}

// An unknownState is a place that this version does not know.
type unknownState struct{ Place }

func (u unknownState) read() (*string, error) {
	return nil, fmt.Errorf("%s is nothing that this version of usher knows", u.Place)
}

func (u unknownState) write(*string) error {
	_, err := u.read()
	return err
}
