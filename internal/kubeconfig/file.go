package kubeconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"usher/internal/secret"
)

// Files returns where kubectl reads its configuration: what KUBECONFIG lists,
// else ~/.kube/config. Of two files that say the same thing the first is right.
func Files(getenv func(string) string) []string {
	var files []string
	for _, file := range filepath.SplitList(getenv("KUBECONFIG")) {
		if file != "" {
			files = append(files, file)
		}
	}
	if len(files) == 0 {
		files = []string{filepath.Join(getenv("HOME"), ".kube", "config")}
	}
	return files
}

// A Result says what became of an Entry.
type Result struct {
	File    string // that has it now
	Current string // the current context of all the files together
}

// MergeInto merges e into one of files: as with kubectl the first that exists,
// else the last. With use, or when none of them has a current context, that is
// e's. The file is replaced whole, for its owner alone.
func MergeInto(files []string, e Entry, use bool) (Result, error) {
	result := Result{File: files[len(files)-1]}
	found := false
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return result, fmt.Errorf("read kubeconfig: %w", err)
		}
		current, err := CurrentContext(data)
		if err != nil {
			return result, fmt.Errorf("read kubeconfig %s: %w", file, err)
		}
		if !found {
			found, result.File = true, file
		}
		if result.Current == "" {
			result.Current = current
		}
	}
	if use || result.Current == "" {
		use, result.Current = true, e.Name
	}
	if err := rewrite(result.File, func(old []byte) ([]byte, error) { return Merge(old, e, use) }); err != nil {
		return result, fmt.Errorf("write kubeconfig %s: %w", result.File, err)
	}
	return result, nil
}

// rewrite replaces the content of a file, which need not exist. It holds the
// lock that kubectl takes, so that neither loses what the other has written.
func rewrite(path string, change func(old []byte) ([]byte, error)) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	lock := path + ".lock" // of the name, as kubectl's, whatever that is a link to
	f, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL, 0)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("another program writes it; if none does, remove %s", lock)
	}
	if err != nil {
		return err
	}
	f.Close()
	defer os.Remove(lock)

	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a link to where somebody keeps his settings stays one
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	info, statErr := os.Stat(path)
	changed, err := change(old)
	if err != nil {
		return err
	}
	if err := secret.Write(path, changed); err != nil {
		return err
	}
	if statErr == nil {
		return keepOwner(path, info)
	}
	return nil
}

// keepOwner gives a file that root has rewritten for a user, by sudo say, back
// to its owner.
func keepOwner(path string, was fs.FileInfo) error {
	st, ok := was.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(path, int(st.Uid), int(st.Gid))
}
