// Package secret keeps files that one user alone can read: tokens, keys, and
// what has them in it. It does not encrypt anything.
package secret

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrExposed is wrapped by the error about a file that others can read or
// write: what is in it is no secret any more.
var ErrExposed = errors.New("others than its owner have access to it")

// errNotFile is wrapped by the error about what is there and no file, such as a
// link, whose mode says nothing about who has access.
var errNotFile = errors.New("it is not a regular file")

// Read returns the content of a file that its owner alone has access to. For
// one that others have access to the error wraps ErrExposed, and fs.ErrNotExist
// for none.
func Read(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", path, errNotFile)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: %w", path, ErrExposed)
	}
	return os.ReadFile(path)
}

// Write makes or replaces a file that this user alone can read, at no moment
// anybody else. Whoever reads it meanwhile finds the old content or the new one.
func Write(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync() // a power cut must not leave an empty file under the name
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
