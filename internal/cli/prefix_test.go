package cli

import (
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPrefixes(t *testing.T) {
	// /dev/null is a device, as a terminal is.
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	plain := []string{"web-0 | ", "db-0  | ", "web-0 | "}
	tests := map[string]struct {
		stdout, stderr io.Writer
		environ        map[string]string
		want           []string
	}{
		"a terminal":         {device, device, nil, []string{"\x1b[36mweb-0 | \x1b[0m", "\x1b[33mdb-0  | \x1b[0m", "\x1b[36mweb-0 | \x1b[0m"}},
		"a file":             {io.Discard, device, nil, plain},
		"errors into a file": {device, io.Discard, nil, plain},
		"NO_COLOR":           {device, device, map[string]string{"NO_COLOR": "1"}, plain},
		"an empty NO_COLOR":  {device, device, map[string]string{"NO_COLOR": ""}, []string{"\x1b[36mweb-0 | \x1b[0m", "\x1b[33mdb-0  | \x1b[0m", "\x1b[36mweb-0 | \x1b[0m"}},
		"a dumb terminal":    {device, device, map[string]string{"TERM": "dumb"}, plain},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := newPrefixes(Env{Stdout: tt.stdout, Stderr: tt.stderr, Getenv: func(name string) string { return tt.environ[name] }})
			p.widen("web", 1)
			p.widen("db", 2)
			got := []string{p.of("web-0"), p.of("db-0"), p.of("web-0")}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
