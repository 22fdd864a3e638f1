package cli

import (
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// A command line that makes no sense is refused before the daemon is asked:
// there is none here.
func TestRunUsage(t *testing.T) {
	tests := map[string]struct {
		args string
		want string
	}{
		"nothing":            {"", "want a name and a command"},
		"no command":         {"web", "want a name and a command"},
		"no dashes":          {"web ./web", "want a name and a command"},
		"an empty command":   {"web --", "want a name and a command"},
		"two names":          {"web api -- ./web", "want a name and a command"},
		"a name":             {"Web -- ./web", `name: Invalid value: "Web"`},
		"a port":             {"web -p 0 -- ./web", `invalid port "0": must be between 1 and 65535, inclusive`},
		"a port twice":       {"web -p 80 -p 80 -- ./web", "ports[1].containerPort: Duplicate value: 80"},
		"a label":            {"web -l app -- ./web", `invalid label "app": want KEY=VALUE`},
		"a value":            {"web -l app=a=b -- ./web", `labels: Invalid value: "a=b"`},
		"no replicas":        {"web --replicas 0 -- ./web", "replicas: Invalid value: 0"},
		"a flag":             {"web --replica 2 -- ./web", "unknown flag: --replica"},
		"a probe":            {"web --readiness-probe {httpget:{}} -- ./web", "invalid --readiness-probe: "},
		"a probe's port":     {"web --readiness-http /x -- ./web", `invalid --readiness-http "/x": there is no TCP port to ask; give one with -p, or write :PORT/x`},
		"a probe's name":     {"web -p 80 --readiness-tcp http -- ./web", `readinessProbe.tcpSocket.port: Not found: "http"`},
		"two probes":         {"web -p 80 --readiness-tcp 80 --readiness-http / -- ./web", "readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"},
		"a policy":           {"web --restart sometimes -- ./web", `invalid --restart "sometimes": want one of Never, OnFailure, Always`},
		"a namespace":        {"web -n Finance -- ./web", `namespace: Invalid value: "Finance"`},
		"everything at once": {"Web -n Finance --replicas 0 -- ./web", "replicas: Invalid value: 0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			env := Env{
				Stdout: &stdout, Stderr: &stderr,
				Getenv: func(string) string { return "" },
			}
			args := append([]string{"run", "--server", "unix:" + t.TempDir() + "/none"}, strings.Fields(tt.args)...)
			if diff := cmp.Diff(exitUsage, Main(t.Context(), env, args)); diff != "" {
				t.Errorf("exit code (-want +got):\n%s", diff)
			}
			if !strings.Contains(stderr.String(), tt.want) || stdout.Len() > 0 {
				t.Errorf("stderr %q, stdout %q, want %q on stderr", &stderr, &stdout, tt.want)
			}
		})
	}
}

// The second signal kills: a Ctrl-C or SIGTERM after another or after the end
// of the terminal, which itself may come twice.
func TestSecondSignal(t *testing.T) {
	tests := map[string]struct {
		signals []syscall.Signal
		kills   bool
	}{
		"one":               {[]syscall.Signal{syscall.SIGINT}, false},
		"two":               {[]syscall.Signal{syscall.SIGINT, syscall.SIGTERM}, true},
		"a hang-up":         {[]syscall.Signal{syscall.SIGHUP}, false},
		"two hang-ups":      {[]syscall.Signal{syscall.SIGHUP, syscall.SIGHUP}, false},
		"Ctrl-C, a hang-up": {[]syscall.Signal{syscall.SIGINT, syscall.SIGHUP}, false},
		"a hang-up, Ctrl-C": {[]syscall.Signal{syscall.SIGHUP, syscall.SIGINT}, true},
	}
	seen := make(chan os.Signal, 1)
	signal.Notify(seen, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(seen)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			second, stop := secondSignal()
			defer stop()
			for _, sig := range tt.signals {
				if err := syscall.Kill(os.Getpid(), sig); err != nil {
					t.Fatal(err)
				}
				<-seen
			}
			limit := 10 * time.Second
			if !tt.kills {
				limit = 50 * time.Millisecond
			}
			select {
			case <-second:
				if !tt.kills {
					t.Error("killed")
				}
			case <-time.After(limit):
				if tt.kills {
					t.Error("not killed")
				}
			}
		})
	}
}

func TestParseRestart(t *testing.T) {
	for s, want := range map[string]corev1.RestartPolicy{
		"Never": corev1.RestartPolicyNever, "never": corev1.RestartPolicyNever, "on-failure": corev1.RestartPolicyOnFailure,
		"OnFailure": corev1.RestartPolicyOnFailure, "onfailure": corev1.RestartPolicyOnFailure, "ALWAYS": corev1.RestartPolicyAlways,
	} {
		if got, err := parseRestart(s); got != want || err != nil {
			t.Errorf("%s is %s, %v, want %s", s, got, err, want)
		}
	}
}
