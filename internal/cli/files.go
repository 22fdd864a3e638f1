package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
)

// files are those that a command is given with -f.
type files struct {
	paths     []string
	recursive bool
}

func (f *files) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.paths, "filename", "f", nil, "file, directory, or - for standard input; may be repeated")
	flags.BoolVarP(&f.recursive, "recursive", "R", false, "directories with all below them")
}

// extensions are those of the files that a directory stands for.
var extensions = []string{".json", ".yaml", ".yml"}

// expand returns the files that are meant, in lexical order where they are of
// a directory.
func (f files) expand() ([]string, error) {
	if len(f.paths) == 0 {
		return nil, usagef("must specify -f: a file, a directory, or - for standard input")
	}
	var all []string
	var errs []error
	for _, path := range f.paths {
		found, err := f.expandOne(path)
		all = append(all, found...)
		errs = append(errs, err)
	}
	return all, errors.Join(errs...)
}

func (f files) expandOne(path string) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the path %q does not exist", path)
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var found []string
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != path && !f.recursive:
			return fs.SkipDir
		case !d.IsDir() && slices.Contains(extensions, filepath.Ext(p)):
			found = append(found, p)
		}
		return nil
	})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("error reading %q: recognized file extensions are %q", path, extensions)
	}
	return found, err
}
