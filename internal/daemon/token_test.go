package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadToken(t *testing.T) {
	const known = "KNOWN"
	tests := []struct {
		name    string
		content string
		mode    os.FileMode // 0: no file
		kept    bool
	}{
		{"first use", "", 0, false},
		{"there already", known + "\n", 0o600, true},
		{"empty", "\n", 0o600, false},
		{"readable by others", known, 0o644, false},
		{"writable by the group", known, 0o620, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "token")
			if tt.mode != 0 {
				if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, tt.mode); err != nil {
					t.Fatal(err)
				}
			}
			token, err := loadToken(path)
			if err != nil {
				t.Fatal(err)
			}
			if (token == known) != tt.kept || len(token) < len(known) {
				t.Errorf("token %q", token)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v", info.Mode())
			}
			again, err := loadToken(path)
			if err != nil || again != token {
				t.Errorf("the next time it is %q, %v", again, err)
			}
		})
	}
}

// A token that somebody keeps elsewhere is not replaced by another one.
func TestLoadTokenLink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.Symlink("elsewhere", path); err != nil {
		t.Fatal(err)
	}
	if token, err := loadToken(path); err == nil || !strings.Contains(err.Error(), "read token: "+path+": it is not a regular file") {
		t.Errorf("token %q, error %v", token, err)
	}
	if to, err := os.Readlink(path); err != nil || to != "elsewhere" {
		t.Errorf("it leads to %q, %v", to, err)
	}
}
