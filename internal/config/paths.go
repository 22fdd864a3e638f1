package config

import (
	"fmt"
	"os"
	"path/filepath"
)

// DefaultSocket returns where the API's unix socket is when nobody says
// otherwise: a directory that only this user can write.
func DefaultSocket(getenv func(string) string) string {
	if os.Geteuid() == 0 {
		return "/run/usher/usher.sock"
	}
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "usher", "usher.sock")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("usher-%d", os.Geteuid()), "usher.sock")
}
