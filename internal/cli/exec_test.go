package cli

import (
	"strings"
	"testing"
)

// A namespace that is no DNS label is refused before the daemon is asked:
// there is none here.
func TestExecNamespace(t *testing.T) {
	none := "unix:" + t.TempDir() + "/none"
	tests := map[string]struct {
		namespace string
		code      int
		want      string
	}{
		"good":       {"finance", exitError, "the daemon is not running"},
		"two words":  {"bad ns", exitUsage, `error: namespace: Invalid value: "bad ns": a lowercase RFC 1123 label`},
		"two lines":  {"a\nnameserver 192.0.2.1", exitUsage, `namespace: Invalid value: "a\nnameserver 192.0.2.1"`},
		"two labels": {"a.b", exitUsage, `namespace: Invalid value: "a.b"`},
		"too long":   {strings.Repeat("a", 64), exitUsage, "must be no more than 63 characters"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			flag := usher(t, nil, "", "exec", "--server", none, "-n", tt.namespace, "--", "true")
			variable := usher(t, map[string]string{"USHER_NAMESPACE": tt.namespace}, "", "exec", "--server", none, "--", "true")
			for _, got := range []result{flag, variable} {
				if got.code != tt.code || !strings.Contains(got.stderr, tt.want) {
					t.Errorf("%+v, want exit code %d and %q", got, tt.code, tt.want)
				}
			}
		})
	}
}
