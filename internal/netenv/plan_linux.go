package netenv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// A plan is what to do inside a new mount namespace. It is handed to stage 2
// as JSON.
type plan struct {
	Program string   // path
	Args    []string `json:"-"` // with the name of the program; passed beside the rest, as they may be long
	Covers  []cover  // before the files
	Files   []file   // to be replaced
	Masks   []string // directories to be emptied
	Report  int      // file descriptor that stage 2 says on what went wrong
	Parent  int      // process id of stage 1
	Private *Private // the network namespace; nil: the caller's
	Group   int      // process group of stage 1

	Privileged bool // no user namespace was made: the program keeps what it may do
}

// A file has the path of a file and its content in the namespace.
type file struct {
	Path    string
	Content []byte
}

// newPlan reads the files of the host that the program gets others for.
func newPlan(o Options, program string) (*plan, error) {
	needs := []int{unix.CAP_SYS_ADMIN}
	if o.Private != nil {
		needs = append(needs, unix.CAP_NET_ADMIN)
	}
	p := &plan{Program: program, Args: o.Args, Private: o.Private, Privileged: Capable(needs...)}
	// Either may be a link, as resolv.conf is where systemd-resolved runs.
	// mount(2) follows it, so that programs see the same by every name.
	const resolv, nsswitch = "/etc/resolv.conf", "/etc/nsswitch.conf"
	host, err := os.ReadFile(resolv)
	if err != nil {
		return nil, fmt.Errorf("read resolv.conf, which has to be there, if only empty: %w", err)
	}
	p.Files = append(p.Files, file{resolv, o.resolvConf(host)})
	if c, ok := coverOf(resolv); ok {
		p.Covers = append(p.Covers, c)
	}

	switch host, err := os.ReadFile(nsswitch); {
	case err == nil:
		p.Files = append(p.Files, file{nsswitch, nsswitchConf(host)})
	case !errors.Is(err, fs.ErrNotExist): // without it there are files and DNS only
		return nil, fmt.Errorf("read nsswitch.conf: %w", err)
	}
	// nscd answers out of its cache of the host's names, by a socket.
	for _, dir := range []string{"/run/nscd", "/var/run/nscd"} {
		dir, err := filepath.EvalSymlinks(dir)
		if err == nil && !slices.Contains(p.Masks, dir) {
			p.Masks = append(p.Masks, dir)
		}
	}
	return p, nil
}

// stage is where the files are made before they are put into place. The
// directory is there on every system and none of the files is below it. Its
// own content is back before the program runs.
const stage = "/proc"

// mountFlags are those of every file system that is made.
const mountFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mount carries out the plan in the mount namespace of the calling thread,
// which has to be a new one. The files are on a file system in memory that
// goes with the namespace: nothing is ever left behind.
//
// A file on the host that is replaced by another one (rename(2)) while the
// program runs takes the mount on it with it, unless its directory is covered.
func (p *plan) mount() error {
	// What the host mounts later is seen; what is mounted here is not.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make the mount namespace private: %w", err)
	}
	for _, c := range p.Covers {
		if err := c.mount(); err != nil {
			return fmt.Errorf("cover %s: %w", c.Dir, err)
		}
	}
	if err := unix.Mount("usher", stage, "tmpfs", mountFlags, "size=1m,mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	for i, f := range p.Files {
		source := filepath.Join(stage, strconv.Itoa(i))
		if err := os.WriteFile(source, f.Content, 0o644); err != nil {
			return err
		}
		if err := os.Chmod(source, 0o644); err != nil { // whatever the umask
			return err
		}
		if err := unix.Mount(source, f.Path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount on %s: %w", f.Path, err)
		}
	}
	if err := unix.Unmount(stage, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the tmpfs: %w", err)
	}
	for _, dir := range p.Masks {
		if err := unix.Mount("usher", dir, "tmpfs", mountFlags|unix.MS_RDONLY, "size=4k,mode=755"); err != nil {
			return fmt.Errorf("mask %s: %w", dir, err)
		}
	}
	return nil
}
