package daemon

import (
	"os"
	"path/filepath"
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
