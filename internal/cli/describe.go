package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"usher/internal/client"
	"usher/registry"
)

func newDescribeCommand(g *globals) *cobra.Command {
	q := &query{globals: g}
	cmd := &cobra.Command{
		Use: "describe TYPE [NAME... | NAME_PREFIX]", Short: "Show objects in detail, with their Events",
		Long: `Show objects in detail, with the Events about them. Of a Service that is also its
endpoints, why those that are not ready are not, and which do not answer.

When no object has the name, those whose names begin with it are shown.`,
		Example: `  usher describe svc payment-service -n finance
  usher describe pods payment-
  usher describe pods -l app=payment
  usher describe node`,
		RunE: func(cmd *cobra.Command, args []string) error { return q.describe(cmd.Context(), args) },
	}
	f := cmd.Flags()
	f.BoolVarP(&q.picking.everywhere, "all-namespaces", "A", false, "in all namespaces")
	f.StringVarP(&q.picking.selector, "selector", "l", "", "label selector")
	cmd.ValidArgsFunction = g.completeObjects
	return cmd
}

// describe prints each object that is asked for.
func (q *query) describe(ctx context.Context, args []string) error {
	targets, err := q.targets(args)
	if err != nil {
		return err
	}
	c, err := q.client()
	if err != nil {
		return err
	}
	defer c.Close()
	found, err := q.find(ctx, c, targets)
	if len(args) == 2 && len(targets) == 1 && len(targets[0].names) == 1 && apierrors.IsNotFound(err) {
		found, err = q.findPrefix(ctx, c, targets[0], err)
	}
	errs := []error{err}
	for i, obj := range found {
		text, err := describe(ctx, c, obj)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if i > 0 {
			text = "\n\n" + text
		}
		if _, err := io.WriteString(q.env.Stdout, text); err != nil {
			return err
		}
	}
	if len(found) == 0 && err == nil && !hasNames(targets) {
		q.sayNone(targets)
	}
	return errors.Join(errs...)
}

// findPrefix returns the objects whose names begin with that of t, or the error
// that there is none of that name.
func (q *query) findPrefix(ctx context.Context, c *client.Client, t target, notFound error) ([]registry.Object, error) {
	list, err := c.List(ctx, t.kind, q.collection(t.kind).Namespace, client.ListOptions{})
	if err != nil {
		return nil, err
	}
	var found []registry.Object
	for _, obj := range list.Items {
		if strings.HasPrefix(obj.GetName(), t.names[0]) {
			found = append(found, obj)
		}
	}
	if len(found) == 0 {
		return nil, notFound
	}
	return found, nil
}

// describe returns the description of an object with the Events about it.
func describe(ctx context.Context, c *client.Client, obj registry.Object) (string, error) {
	p := newPage()
	p.field(0, "Name", obj.GetName())
	if registry.KindOf(obj).Namespaced {
		p.field(0, "Namespace", obj.GetNamespace())
	}
	if err := describeObject(ctx, c, p, obj); err != nil {
		return "", err
	}
	if err := describeEvents(ctx, c, p, obj); err != nil {
		return "", err
	}
	return p.text(), nil
}

// describeObject writes what there is between an object's name and its Events.
func describeObject(ctx context.Context, c *client.Client, p *page, obj registry.Object) error {
	switch obj := obj.(type) {
	case *corev1.Service:
		return describeService(ctx, c, p, obj)
	case *corev1.Pod:
		describePod(p, obj)
	case *corev1.Node:
		return describeNode(ctx, c, p, obj)
	case *corev1.Namespace:
		describeMeta(p, obj)
		p.field(0, "Status", string(obj.Status.Phase))
	case *discoveryv1.EndpointSlice:
		describeEndpointSlice(p, obj)
	case *corev1.Endpoints:
		describeEndpoints(p, obj)
	default:
		return describeFields(p, obj)
	}
	return nil
}

func describeMeta(p *page, obj registry.Object) {
	p.labels(0, "Labels", obj.GetLabels())
	p.annotations(obj.GetAnnotations())
}

// describeEvents writes the Events about an object, the latest last.
func describeEvents(ctx context.Context, c *client.Client, p *page, obj registry.Object) error {
	namespace := cmp.Or(obj.GetNamespace(), metav1.NamespaceDefault)
	list, err := c.List(ctx, registry.Events, namespace, client.ListOptions{
		FieldSelector: "involvedObject.kind=" + registry.KindOf(obj).Kind + ",involvedObject.name=" + obj.GetName(),
	})
	if err != nil {
		return err
	}
	var events []*corev1.Event
	for _, item := range list.Items {
		events = append(events, item.(*corev1.Event))
	}
	slices.SortStableFunc(events, func(a, b *corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
	var rows [][]string
	for _, ev := range events {
		rows = append(rows, []string{ev.Type, ev.Reason, eventAge(ev, time.Now()), ev.Source.Component, strings.TrimSpace(ev.Message)})
	}
	p.table(0, "Events", []string{"Type", "Reason", "Age", "From", "Message"}, rows)
	return nil
}

// eventAge says when an Event happened last and, if it did more than once, how
// often.
func eventAge(ev *corev1.Event, now time.Time) string {
	if ev.LastTimestamp.IsZero() {
		return "<unknown>"
	}
	age := duration.HumanDuration(now.Sub(ev.LastTimestamp.Time))
	if ev.Count > 1 {
		return fmt.Sprintf("%s (x%d over %s)", age, ev.Count, duration.HumanDuration(now.Sub(ev.FirstTimestamp.Time)))
	}
	return age
}
