package secret

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestRead(t *testing.T) {
	tests := map[string]struct {
		make func(path string) error
		want error
	}{
		"private":              {func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) }, nil},
		"read only":            {func(path string) error { return os.WriteFile(path, []byte("x"), 0o400) }, nil},
		"none":                 {func(string) error { return nil }, fs.ErrNotExist},
		"readable by others":   {func(path string) error { return os.WriteFile(path, []byte("x"), 0o604) }, ErrExposed},
		"readable by a group":  {func(path string) error { return os.WriteFile(path, []byte("x"), 0o640) }, ErrExposed},
		"directory":            {func(path string) error { return os.Mkdir(path, 0o700) }, errNotFile},
		"symlink to elsewhere": {func(path string) error { return os.Symlink("/etc/hostname", path) }, errNotFile},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := tt.make(path); err != nil {
				t.Fatal(err)
			}
			data, err := Read(path)
			if !errors.Is(err, tt.want) || (err == nil) != (string(data) == "x") {
				t.Errorf("%q, %v, want the error %v", data, err, tt.want)
			}
		})
	}
}

// A file is replaced whole, whatever mode it had, and nothing is left beside it.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("something longer"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if data, err := Read(path); err != nil || string(data) != "new" {
		t.Errorf("%q, %v", data, err)
	}
	if err := Write(dir, []byte("new")); err == nil {
		t.Error("a directory was replaced")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
