package netenv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A cover is a directory of the host that the program gets another one for,
// with the same in it but for one file. What is mounted on that file stays,
// whatever the host does to its own.
type cover struct {
	Dir  string
	File string
}

// coverOf returns the cover for a file that is a link into /run, where daemons
// such as systemd-resolved and NetworkManager keep theirs and write it anew
// when the network changes.
//
// There is none for a file in /etc. Files there are written by other names and
// renamed, also by the program: it could not change a password or install
// anything any more, and would not see what the host puts there later.
func coverOf(path string) (cover, bool) {
	path, err := filepath.EvalSymlinks(path)
	dir, file := filepath.Split(path)
	dir = filepath.Clean(dir)
	return cover{dir, file}, err == nil && strings.HasPrefix(dir, "/run/")
}

// mount covers the directory. What is in it stays what it is, by mounts.
func (c cover) mount() error {
	host, err := os.Open(c.Dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil // the file alone is replaced
	}
	if err != nil {
		return err
	}
	defer host.Close()
	entries, err := host.ReadDir(-1)
	if err != nil {
		return err
	}
	if err := unix.Mount("usher", c.Dir, "tmpfs", mountFlags, "size=1m,mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	for _, e := range entries {
		source := fmt.Sprintf("/proc/self/fd/%d/%s", host.Fd(), e.Name())
		target := filepath.Join(c.Dir, e.Name())
		if e.Name() == c.File {
			source = ""
		}
		if err := appear(source, target, e.Type()); err != nil && !errors.Is(err, fs.ErrNotExist) { // gone since
			return err
		}
	}
	return nil
}

// appear makes target what source is, or an empty file when that is "".
func appear(source, target string, mode fs.FileMode) error {
	switch {
	case source == "":
		return os.WriteFile(target, nil, 0o644)
	case mode&fs.ModeSymlink != 0:
		to, err := os.Readlink(source)
		if err != nil {
			return err
		}
		return os.Symlink(to, target)
	case mode.IsDir():
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
	default:
		if err := os.WriteFile(target, nil, 0o644); err != nil {
			return err
		}
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}
