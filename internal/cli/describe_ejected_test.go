package cli

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/api"
)

// TestDescribeEjected has an endpoint that does not answer.
func TestDescribeEjected(t *testing.T) {
	f := newFake(t, finance)
	now := time.Now()
	f.ejections = []api.Ejection{
		{Namespace: "finance", Service: "payment-service", Protocol: "TCP", Backend: "10.1.0.5:8080", Error: "connection refused",
			Since: metav1.Time{Time: now.Add(-90 * time.Minute)}, Until: metav1.Time{Time: now.Add(75*time.Minute + 30*time.Second)}},
		{Namespace: "finance", Service: "empty", Protocol: "TCP", Backend: "10.1.0.9:8080", Error: "no route to host",
			Since: metav1.Time{Time: now.Add(-90 * time.Minute)}, Until: metav1.Time{Time: now.Add(-time.Second)}},
	}
	for name, want := range map[string]string{
		"payment-service": `
Ejected Endpoints:
  Endpoint       Protocol  Since  Tried Again  Last Error
  --------       --------  -----  -----------  ----------
  10.1.0.5:8080  TCP       90m    in 75m       connection refused
Events:`,
		"empty": `
  10.1.0.9:8080  TCP       90m    in 0s        no route to host
`,
	} {
		got := f.usher(t, "", "describe", "svc", name, "-n", "finance")
		if got.code != 0 || !strings.Contains(got.stdout, want) {
			t.Errorf("%d %s\n%s\nwant\n%s", got.code, got.stderr, got.stdout, want)
		}
	}
}
