package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What -f says is a pattern; where it is said is none.
func TestUpFilename(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "[x]*")
	for _, file := range []string{"Procfile", "more/a.yaml", "more/b.yaml"} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	tests := map[string]struct {
		pattern string
		want    []string
		err     string
	}{
		"a file":    {"more/a.yaml", []string{"more/a.yaml"}, ""},
		"a pattern": {"mor?/[ab].yaml", []string{"more/a.yaml", "more/b.yaml"}, ""},
		"absolute":  {filepath.Join(filepath.Dir(dir), `\[x]\*/more/*`), []string{"more/a.yaml", "more/b.yaml"}, ""},
		"no file":   {"more/c.yaml", nil, `the path "more/c.yaml" does not exist`},
		"wrong":     {"more/[", nil, `invalid -f "more/[": syntax error in pattern`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			u := &upCommand{globals: &globals{env: Env{Getenv: func(string) string { return "" }}}, extra: []string{tt.pattern}}
			p, err := u.load(filepath.Join(dir, "Procfile"))
			if tt.err != "" {
				if err == nil || err.Error() != tt.err || errors.As(err, new(usageError)) != strings.HasPrefix(tt.err, "invalid") {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			files, err := p.ManifestFiles()
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, file := range tt.want {
				want = append(want, filepath.Join(dir, file))
			}
			if diff := cmp.Diff(want, files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}
