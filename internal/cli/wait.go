package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"

	"usher/internal/client"
	"usher/registry"
)

// A waiting is what wait was asked for.
type waiting struct {
	*globals
	picking picking
	print   printFlags
	timeout time.Duration
	wanted  []string // as --for has them
	waits   []condition
}

func newWaitCommand(g *globals) *cobra.Command {
	w := &waiting{globals: g}
	cmd := &cobra.Command{
		Use:   "wait (-f FILE | TYPE NAME... | TYPE -l SELECTOR | TYPE --all) --for=CONDITION",
		Short: "Wait until objects are as they should be",
		Long: `Wait until every one of some objects is as it should be. CONDITION is one of

  condition=NAME[=VALUE]       the status has the condition, "true" without VALUE
  jsonpath={PATH}[=VALUE]      the object has the value there, or anything at all
  create                       the object is there
  delete                       the object is not there

Several are waited for one after the other, create first. The exit code is 1 when
the time is over.`,
		Example: `  usher wait --for=condition=Ready pods -l app=payment -n finance
  usher wait --for=jsonpath='{.status.phase}'=Running pod/payment-0
  usher wait --for=create svc/payment-service --timeout=1m
  usher wait --for=delete -f service.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error { return w.run(cmd.Context(), args) },
	}
	w.picking.addFlags(cmd)
	w.picking.addAllFlag(cmd)
	w.print.addFlags(cmd)
	f := cmd.Flags()
	f.DurationVar(&w.timeout, "timeout", 30*time.Second, "how long to wait; 0: look once, negative: for a week")
	f.StringArrayVar(&w.wanted, "for", nil, "what to wait for; may be repeated")
	complete(cmd, "for", cobra.FixedCompletions([]string{"condition=", "jsonpath=", "create", "delete"},
		cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
	cmd.ValidArgsFunction = g.completeObjects
	return cmd
}

func (w *waiting) run(ctx context.Context, args []string) error {
	if err := w.picking.check(args); err != nil {
		return err
	}
	printer, err := w.print.printer()
	if err != nil {
		return err
	}
	if w.waits, err = parseConditions(w.wanted); err != nil {
		return err
	}
	c, err := w.client()
	if err != nil {
		return err
	}
	defer c.Close()
	timed, cancel := w.deadline(ctx)
	defer cancel()
	if w.has(isCreated) && w.timeout != 0 {
		if err := w.awaitCreation(timed, c, args); err != nil {
			return err
		}
	}
	objects, _, err := w.picking.objects(ctx, w.globals, c, args, "waiting for")
	if w.has(isDeleted) {
		err = withoutNotFound(err)
	}
	errs := []error{err}
	for _, obj := range objects {
		errs = append(errs, w.await(timed, c, obj, printer))
	}
	if len(objects) == 0 && err == nil && !w.has(isDeleted) {
		return errors.New("no matching resources found")
	}
	return errors.Join(errs...)
}

// deadline returns the context of what is waited for. What is asked before has
// none, so that a short time is not too short for that.
func (w *waiting) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	const week = 7 * 24 * time.Hour
	switch {
	case w.timeout == 0:
		return context.WithCancel(ctx)
	case w.timeout < 0:
		return context.WithTimeout(ctx, week)
	}
	return context.WithTimeout(ctx, w.timeout)
}

func (w *waiting) has(kind conditionKind) bool {
	return slices.ContainsFunc(w.waits, func(c condition) bool { return c.kind == kind })
}

// withoutNotFound returns err without those of its errors that say that an
// object is not there.
func withoutNotFound(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(slices.DeleteFunc(flatten(err), apierrors.IsNotFound)...)
}

// await waits until an object is in each of the conditions, and says so.
func (w *waiting) await(ctx context.Context, c *client.Client, obj registry.Object, printer objectPrinter) error {
	for _, cond := range w.waits {
		last, err := w.awaitOne(ctx, c, registry.KeyOf(obj), cond)
		if err != nil {
			return err
		}
		if last != nil {
			obj = last
		}
		if printer != nil {
			err = printer(w.env.Stdout, []registry.Object{obj}, true)
		} else {
			_, err = fmt.Fprintln(w.env.Stdout, objectName(registry.KeyOf(obj))+" condition met")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitOne waits until the object under key meets a condition, and returns it
// as it is then, or nil if it is gone.
func (w *waiting) awaitOne(ctx context.Context, c *client.Client, key registry.Key, cond condition) (registry.Object, error) {
	if w.timeout == 0 || cond.kind == isCreated {
		return lookOnce(ctx, c, key, cond)
	}
	for {
		obj, err := watchFor(ctx, c, key, cond)
		switch {
		case err == nil:
			return obj, nil
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return nil, fmt.Errorf("timed out waiting for the condition on %s/%s", key.Kind.Resource, key.Name)
		case errors.Is(err, io.EOF), apierrors.IsResourceExpired(err):
			// The server has ended the watch: another one begins with what there is.
		default:
			return nil, err
		}
	}
}

// lookOnce checks a condition without waiting for it.
func lookOnce(ctx context.Context, c *client.Client, key registry.Key, cond condition) (registry.Object, error) {
	obj, err := c.Get(ctx, key)
	if apierrors.IsNotFound(err) && cond.kind == isDeleted {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	met, err := cond.met(obj)
	if err == nil && !met {
		err = fmt.Errorf("condition not met for %s/%s", key.Kind.Resource, key.Name)
	}
	return obj, err
}

// watchFor follows an object until it meets a condition. An object that is not
// there at the beginning is an error, unless that is the condition.
func watchFor(ctx context.Context, c *client.Client, key registry.Key, cond condition) (registry.Object, error) {
	collection := key
	collection.Name = ""
	s, err := c.WatchObjects(ctx, collection, client.ListOptions{FieldSelector: "metadata.name=" + key.Name, InitialEvents: true})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for there := false; ; there = true {
		ev, err := s.Next()
		switch {
		case err != nil:
			return nil, err
		case ev.Type == watch.Bookmark && there, ev.Type == watch.Deleted && cond.kind != isDeleted:
			continue
		case ev.Type == watch.Deleted, ev.Type == watch.Bookmark && cond.kind == isDeleted:
			return nil, nil
		case ev.Type == watch.Bookmark:
			return nil, apierrors.NewNotFound(key.Kind.GroupResource(), key.Name)
		}
		obj := ev.Object.(registry.Object)
		if met, err := cond.met(obj); met || err != nil {
			return obj, err
		}
	}
}

// awaitCreation waits until everything that is named is there, or anything
// that is selected.
func (w *waiting) awaitCreation(ctx context.Context, c *client.Client, args []string) error {
	keys, err := w.picking.keys(w.globals, args, "waiting for")
	if err != nil {
		return err
	}
	if keys == nil && len(w.picking.files.paths) == 0 {
		targets, err := parseTargets(args)
		if err != nil {
			return err
		}
		for _, t := range targets {
			if err := awaitAny(ctx, c, w.picking.collection(w.globals, t.kind), w.picking.options()); err != nil {
				return err
			}
		}
		return nil
	}
	for _, key := range keys {
		o := client.ListOptions{FieldSelector: "metadata.name=" + key.Name}
		key.Name = ""
		if err := awaitAny(ctx, c, key, o); err != nil {
			return err
		}
	}
	return nil
}

// awaitAny waits until a selection is not empty.
func awaitAny(ctx context.Context, c *client.Client, collection registry.Key, o client.ListOptions) error {
	for {
		s, err := c.WatchObjects(ctx, collection, o)
		if err == nil {
			_, err = s.Next()
			s.Close()
		}
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return errors.New("timed out waiting for the condition")
		case errors.Is(err, io.EOF), apierrors.IsResourceExpired(err):
		default:
			return err
		}
	}
}
