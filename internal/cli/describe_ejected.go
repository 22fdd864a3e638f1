package cli

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"usher/internal/client"
)

// describeEjected writes which endpoints of a Service are tried last, because
// they do not answer, and for how long yet.
func describeEjected(ctx context.Context, c *client.Client, p *page, svc *corev1.Service) error {
	list, err := c.Ejections(ctx, svc.Namespace, svc.Name)
	if err != nil || len(list.Items) == 0 {
		return err
	}
	now := time.Now()
	var rows [][]string
	for _, e := range list.Items {
		rows = append(rows, []string{
			e.Backend, e.Protocol, duration.HumanDuration(now.Sub(e.Since.Time)),
			"in " + duration.HumanDuration(max(e.Until.Sub(now), 0)), e.Error,
		})
	}
	p.table(0, "Ejected Endpoints", []string{"Endpoint", "Protocol", "Since", "Tried Again", "Last Error"}, rows)
	return nil
}
