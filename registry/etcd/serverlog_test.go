package etcd

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// relayed returns what relay logs of text at Info and above, and how often it
// was ready.
func relayed(text string) (logged string, ready int) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	relay(strings.NewReader(text), log, func() { ready++ })
	return out.String(), ready
}

func TestRelay(t *testing.T) {
	tests := []struct {
		name, text, want string
		ready            int
	}{
		{"nothing", "", "", 0},
		{"ready", readyLine + "\n", "", 1},
		{"warning", `{"level":"WARN","msg":"slow","took":"1s","b":2,"a":1}`, "level=WARN msg=\"etcd: slow\" a=1 b=2 took=1s\n", 0},
		{"error", `{"level":"ERROR","msg":"x"}`, "level=ERROR msg=\"etcd: x\"\n", 0},
		{"fatal", `{"level":"FATAL","msg":"x"}`, "level=ERROR msg=\"etcd: x\"\n", 0},
		{"plain error", "start etcd: no space", "level=ERROR msg=\"etcd: start etcd: no space\"\n", 0},
		{"panic with its trace", "panic: x\n\ngoroutine 1 [running]:\nmain.main()\n{\"level\":\"WARN\",\"msg\":\"y\"}\n",
			"level=ERROR msg=\"etcd: panic: x\"\nlevel=WARN msg=\"etcd: y\"\n", 0},
		{"null", "null", "level=ERROR msg=\"etcd: null\"\n", 0},
		{"too long", "x\n" + strings.Repeat("y", 2<<20) + "\nz\n", "level=ERROR msg=\"etcd: x\"\n", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ready := relayed(tt.text)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
			if ready != tt.ready {
				t.Errorf("ready %d times, want %d", ready, tt.ready)
			}
		})
	}
}

// TestServerLog writes as etcd does and reads it back.
func TestServerLog(t *testing.T) {
	var out bytes.Buffer
	log := newServerLog(zapcore.AddSync(&out), zap.WarnLevel)
	log.Info("not this")
	log.Warn("simple token is not cryptographically signed")
	log.Warn("8e9e05c52164694d cannot campaign at term 1 since there are still pending configuration changes to apply")
	log.With(zap.String("dir", "/x")).Warn("simple token is not cryptographically signed")
	log.With(zap.String("dir", "/x")).Warn("slow", zap.Int("size", 3))
	got, _ := relayed(out.String())
	if diff := cmp.Diff("level=WARN msg=\"etcd: slow\" dir=/x size=3\n", got); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

// FuzzRelay feeds what a dying process may write.
func FuzzRelay(f *testing.F) {
	f.Add(readyLine + "\n")
	f.Add(`{"level":"WARN","msg":"slow","a":{"b":[1]}}`)
	f.Add("panic: x\n\ngoroutine 1 [running]:\n")
	f.Fuzz(func(t *testing.T, text string) { relayed(text) })
}
