package cli

import (
	"context"
	"errors"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"usher/internal/client"
	"usher/registry"
)

// follow prints a collection, or one object, and then each change until the
// user has seen enough.
func (q *query) follow(ctx context.Context, c *client.Client, t target) error {
	key, opts := q.collection(t.kind), q.options()
	for _, one := range q.keysOf(t) { // at most one
		if _, err := c.Get(ctx, one); err != nil {
			return err
		}
		key.Namespace, opts.FieldSelector = one.Namespace, "metadata.name="+one.Name
	}
	if q.printer != nil {
		return q.followObjects(ctx, c, key, opts)
	}
	return q.followTable(ctx, c, key, opts)
}

func (q *query) followTable(ctx context.Context, c *client.Client, key registry.Key, opts client.ListOptions) error {
	table, err := c.Table(ctx, key, opts, q.include())
	if err == nil {
		err = sortByPath(table.Rows, q.sortBy, rowObject)
	}
	if err != nil {
		return err
	}
	p := &tablePrinter{w: q.env.Stdout}
	view := q.view(key.Kind, false)
	show := func(t *metav1.Table) error {
		if len(t.Rows) == 0 {
			return nil
		}
		rows := view.rows(t)
		view.header = false // it is there now
		return p.print(rows)
	}
	if err := show(table); err != nil {
		return err
	}
	opts.ResourceVersion = table.ResourceVersion
	s, err := c.WatchTable(ctx, key, opts)
	if err != nil {
		return err
	}
	defer s.Close()
	return each(ctx, s, func(obj runtime.Object) error {
		change := obj.(*metav1.Table)
		change.ColumnDefinitions = table.ColumnDefinitions // they come with the first event alone
		return show(change)
	})
}

func (q *query) followObjects(ctx context.Context, c *client.Client, key registry.Key, opts client.ListOptions) error {
	s, err := c.WatchObjects(ctx, key, opts)
	if err != nil {
		return err
	}
	defer s.Close()
	show := q.print.oneByOne(q.env.Stdout, q.printer)
	return each(ctx, s, func(obj runtime.Object) error { return show(obj.(registry.Object)) })
}

// each calls f with the object of each event until ctx is done.
func each(ctx context.Context, s *client.Stream, f func(runtime.Object) error) error {
	for {
		ev, err := s.Next()
		switch {
		case ctx.Err() != nil:
			return nil // the user has seen enough
		case errors.Is(err, io.EOF):
			return errors.New("the daemon has ended the watch\n  is it still there? usher status")
		case err != nil:
			return err
		}
		if err := f(ev.Object); err != nil {
			return err
		}
	}
}
