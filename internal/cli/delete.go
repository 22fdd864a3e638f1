package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"usher/internal/client"
	"usher/registry"
)

// A deletion is what delete was asked for.
type deletion struct {
	*globals
	picking        picking
	ignoreNotFound bool
	wait           bool
	grace          int64
	now            bool
	output         string
	dryRun         dryRun
}

func newDeleteCommand(g *globals) *cobra.Command {
	d := &deletion{globals: g}
	cmd := &cobra.Command{
		Use:   "delete (-f FILE | TYPE NAME... | TYPE -l SELECTOR | TYPE --all)",
		Short: "Delete objects",
		Long: `Delete objects, and wait until they are gone. A Pod that a process is behind
terminates first: it gets no new connections, and the process is asked to end.`,
		Example: `  usher delete -f service.yaml
  usher delete svc payment-service -n finance
  usher delete pods -l app=payment
  usher delete pod payment-0 --now`,
		RunE: func(cmd *cobra.Command, args []string) error { return d.run(cmd.Context(), args) },
	}
	d.picking.addFlags(cmd)
	d.picking.addAllFlag(cmd)
	f := cmd.Flags()
	f.BoolVar(&d.ignoreNotFound, "ignore-not-found", false, "an object that is not there is no error")
	f.BoolVar(&d.wait, "wait", true, "wait until the objects are gone")
	f.Int64Var(&d.grace, "grace-period", -1, "seconds for a Pod to terminate; negative: its own")
	f.BoolVar(&d.now, "now", false, "the same as --grace-period=1")
	d.dryRun.addFlag(cmd)
	addOutputFlag(cmd, &d.output, "name")
	cmd.ValidArgsFunction = g.completeObjects
	return cmd
}

func (d *deletion) run(ctx context.Context, args []string) error {
	if err := d.check(args); err != nil {
		return err
	}
	c, err := d.client()
	if err != nil {
		return err
	}
	defer c.Close()
	c.DryRun = d.dryRun == dryRunServer
	keys, err := d.keys(ctx, c, args)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		fmt.Fprintln(d.env.Stderr, "No resources found")
	}
	var opts metav1.DeleteOptions
	switch {
	case d.now:
		opts.GracePeriodSeconds = new(int64(1))
	case d.grace >= 0:
		opts.GracePeriodSeconds = &d.grace
	}
	return d.delete(ctx, c, keys, opts)
}

// delete deletes what is under keys, and waits for the end of it.
func (d *deletion) delete(ctx context.Context, c *client.Client, keys []registry.Key, opts metav1.DeleteOptions) error {
	// All of them first, so that Pods terminate at the same time.
	var errs []error
	deleted := make(map[registry.Key]types.UID)
	for _, key := range keys {
		uid, err := d.remove(ctx, c, key, opts)
		switch {
		case err == nil:
			deleted[key] = uid
			errs = append(errs, d.say(key))
		case apierrors.IsNotFound(err) && d.ignoreNotFound:
		default:
			errs = append(errs, err)
		}
	}
	for _, key := range keys {
		if uid, ok := deleted[key]; ok && d.wait && d.dryRun == dryRunNone {
			errs = append(errs, awaitDeletion(ctx, c, key, uid))
		}
	}
	return errors.Join(errs...)
}

// check refuses flags and arguments that do not go together.
func (d *deletion) check(args []string) error {
	if err := checkOutput(d.output, "name"); err != nil {
		return err
	}
	if err := d.dryRun.check(); err != nil {
		return err
	}
	if d.now && d.grace >= 0 {
		return usagef("--now and --grace-period exclude each other")
	}
	return d.picking.check(args)
}

// say tells that an object was deleted.
func (d *deletion) say(key registry.Key) error {
	text := fmt.Sprintf("%s %q deleted", typeName(key.Kind), key.Name)
	if key.Namespace != "" {
		text += " from " + key.Namespace + " namespace"
	}
	text += d.dryRun.suffix()
	if d.output == "name" {
		text = objectName(key)
	}
	_, err := fmt.Fprintln(d.env.Stdout, text)
	return err
}

// keys returns the keys of what is to be deleted.
func (d *deletion) keys(ctx context.Context, c *client.Client, args []string) ([]registry.Key, error) {
	if !d.picking.selects() {
		return d.picking.keys(d.globals, args, "deleting")
	}
	d.ignoreNotFound = true // what is selected may go by itself
	objects, err := d.picking.selected(ctx, d.globals, c, args)
	if err != nil {
		return nil, err
	}
	var keys []registry.Key
	for _, obj := range objects {
		if !registry.IsDerived(obj) { // it goes with what it is derived from
			keys = append(keys, registry.KeyOf(obj))
		}
	}
	return keys, nil
}

// remove deletes an object and returns the UID that it had.
func (d *deletion) remove(ctx context.Context, c *client.Client, key registry.Key, opts metav1.DeleteOptions) (types.UID, error) {
	obj, err := c.Get(ctx, key)
	if err != nil {
		return "", err
	}
	if d.dryRun == dryRunClient {
		return obj.GetUID(), nil
	}
	return obj.GetUID(), c.Delete(ctx, key, opts)
}

// awaitDeletion waits until the object with that UID is gone; there may be
// another one of its name.
func awaitDeletion(ctx context.Context, c *client.Client, key registry.Key, uid types.UID) error {
	for {
		obj, err := c.Get(ctx, key)
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		case obj.GetUID() != uid:
			return nil
		}
		if err := awaitChange(ctx, c, obj); err != nil {
			return err
		}
	}
}

// awaitChange waits until an object may have changed.
func awaitChange(ctx context.Context, c *client.Client, obj registry.Object) error {
	key := registry.KeyOf(obj)
	selector := "metadata.name=" + key.Name
	key.Name = ""
	s, err := c.WatchObjects(ctx, key, client.ListOptions{FieldSelector: selector, ResourceVersion: obj.GetResourceVersion()})
	if apierrors.IsResourceExpired(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.Next(); err != nil && !errors.Is(err, io.EOF) && !apierrors.IsResourceExpired(err) {
		return err
	}
	return nil
}
