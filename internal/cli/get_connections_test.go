package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/api"
)

// someConnections is what is open of a fake.
func someConnections(_ context.Context, q api.ConnectionQuery) (api.ConnectionList, error) {
	started := metav1.Time{Time: time.Now().Add(-50 * time.Hour)}
	var list api.ConnectionList
	for _, c := range []api.Connection{{
		Namespace: "finance", Service: "payment-service", PortName: "http", Protocol: "TCP", Client: "10.0.0.1:4711", VIP: "10.96.37.195:80",
		Listener: "127.96.37.195:8080", Backend: "10.1.0.5:8080", Pod: "p1", Node: "node-1", StartTime: started,
		BytesUp: 12, BytesDown: 3456, State: "Established", Path: "direct", PID: 4711, Command: "curl", RTT: &metav1.Duration{Duration: 65 * time.Microsecond},
	}, {
		Namespace: "other", Service: "empty\x1b[2J", Protocol: "UDP", VIP: "10.96.111.63:80", Listener: "10.96.111.63:80",
		StartTime: started, State: "Unanswered", Path: "proxy",
	}} {
		if (q.Namespace == "" || q.Namespace == c.Namespace) && (len(q.Services) == 0 || slices.Contains(q.Services, c.Service)) {
			list.Items = append(list.Items, c)
		}
	}
	if len(q.Services) > 1 {
		list.RemainingItemCount = new(int64(q.Limit))
	}
	return list, nil
}

func TestGetConnections(t *testing.T) {
	f := newFake(t, "")
	const table = `SERVICE           PROTOCOL   CLIENT          VIP               BACKEND         AGE    BYTES-UP   BYTES-DOWN   STATE         PATH
payment-service   TCP        10.0.0.1:4711   10.96.37.195:80   10.1.0.5:8080   2d2h   12         3456         Established   direct
`
	tests := []struct {
		args string
		want result
	}{
		{"connections -n finance", result{0, table, ""}},
		{"conn payment-service none -n finance", result{0, table, "10000 more are not shown\n"}},
		{"connections none -n finance", result{0, "", "No resources found in finance namespace.\n"}},
		{"connections", result{0, "", "No resources found in default namespace.\n"}},
		{"Connections.usher.internal -A --no-headers", result{0, "" +
			"finance   payment-service   TCP   10.0.0.1:4711   10.96.37.195:80   10.1.0.5:8080   2d2h   12    3456   Established   direct\n" +
			"other     empty?[2J         UDP   <none>          10.96.111.63:80   <none>          2d2h   0     0      Unanswered    proxy\n", ""}},
		{"connections -n finance -o wide --no-headers", result{0, "payment-service   TCP   10.0.0.1:4711   10.96.37.195:80   10.1.0.5:8080   2d2h   12    3456   Established   direct   4711   curl   65µs   http   127.96.37.195:8080   p1    node-1\n", ""}},
		{"connections -w", result{exitUsage, "", "connections are no objects: -f, --watch, --show-labels, -L, --show-kind, --sort-by and --template do not go with them"}},
		{"connections -l a=b", result{exitUsage, "", "connections are no objects, and have no labels: name their services instead"}},
		{"connections -o name", result{exitUsage, "", `unable to match a printer suitable for the output format "name"`}},
	}
	for _, tt := range tests {
		got := f.usher(t, "", append([]string{"get"}, strings.Fields(tt.args)...)...)
		if got.code == exitUsage {
			if tt.want.code != exitUsage || !strings.Contains(got.stderr, tt.want.stderr) {
				t.Errorf("%s: %+v", tt.args, got)
			}
			continue
		}
		if got != tt.want {
			t.Errorf("%s:\n%s%s(code %d), want\n%s%s", tt.args, got.stdout, got.stderr, got.code, tt.want.stdout, tt.want.stderr)
		}
	}
	for _, format := range []string{"json", "yaml"} {
		got := f.usher(t, "", "get", "connections", "-n", "finance", "-o", format)
		if got.code != 0 || !strings.Contains(got.stdout, fmt.Sprintf(map[string]string{"json": "%q: %d", "yaml": "%[1]s: %[2]d"}[format], "bytesDown", 3456)) {
			t.Errorf("-o %s: %+v", format, got)
		}
	}
}
