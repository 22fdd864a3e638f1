package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"usher/internal/client"
	"usher/registry"
)

// A writeCommand sends the objects of manifests: apply, create or replace.
type writeCommand struct {
	*globals
	files  files
	print  printFlags
	dryRun dryRun

	name  string // "apply"
	verb  string // "applying"
	done  string // "created"; of apply it depends
	named bool   // generateName is not enough
	list  bool   // the objects are printed as a List

	// send sends one object, and returns it as stored and what was done to it.
	send func(context.Context, *client.Client, manifest) (registry.Object, string, error)

	// wrap says of an error of the server what it is about; nil: the manifest.
	wrap func(error) error
}

// command makes cmd the command that w is of.
func (w *writeCommand) command(cmd *cobra.Command) *cobra.Command {
	w.name = cmd.Name()
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return w.run(cmd.Context(), w.manifests) }
	w.files.addFlags(cmd)
	w.addFlags(cmd)
	return cmd
}

// addFlags gives cmd the flags of every command that writes.
func (w *writeCommand) addFlags(cmd *cobra.Command) {
	w.dryRun.addFlag(cmd)
	w.print.addFlags(cmd)
}

// run sends every object that read returns, and fails when one of them failed.
func (w *writeCommand) run(ctx context.Context, read func() ([]manifest, error)) error {
	printer, err := w.print.printer()
	if err != nil {
		return err
	}
	if err := w.dryRun.check(); err != nil {
		return err
	}
	manifests, err := read()
	if err != nil {
		return err
	}
	c, err := w.client()
	if err != nil {
		return err
	}
	defer c.Close()
	c.DryRun = w.dryRun == dryRunServer
	send := w.send
	if w.dryRun == dryRunClient {
		send = w.pretend
	}
	show := w.sayDone
	if printer != nil {
		one := w.print.oneByOne(w.env.Stdout, printer)
		show = func(obj registry.Object, _ string) error { return one(obj) }
	}
	var errs []error
	var stored []registry.Object
	for _, m := range manifests {
		obj, done, err := send(ctx, c, m)
		if err != nil && !errors.As(err, new(*apierrors.StatusError)) {
			errs = append(errs, err) // nobody answers: nor will they for the rest
			break
		}
		if err != nil {
			errs = append(errs, w.about(m, err))
			continue
		}
		if w.list && printer != nil {
			stored = append(stored, obj)
			continue
		}
		errs = append(errs, show(obj, done))
	}
	if len(stored) > 0 {
		errs = append(errs, printer(w.env.Stdout, stored, len(manifests) == 1))
	}
	return errors.Join(errs...)
}

// sayDone says what was done to an object.
func (w *writeCommand) sayDone(obj registry.Object, done string) error {
	_, err := fmt.Fprintf(w.env.Stdout, "%s %s%s\n", objectName(registry.KeyOf(obj)), done, w.note(obj, done))
	return err
}

// about says what an error of the server is about.
func (w *writeCommand) about(m manifest, err error) error {
	if w.wrap != nil {
		return w.wrap(err)
	}
	return manifestError{w.verb, m.source, err}
}

// manifests reads the objects to send.
func (w *writeCommand) manifests() ([]manifest, error) {
	manifests, err := w.readManifests(w.files, w.verb)
	if err != nil {
		return nil, err
	}
	if len(manifests) == 0 {
		return nil, fmt.Errorf("no objects passed to %s", w.name)
	}
	var errs []error
	for _, m := range manifests {
		if w.named && m.object.GetName() == "" {
			errs = append(errs, manifestError{w.verb, m.source, fmt.Errorf(
				"from %s: cannot use generate name; use create", m.object.GetGenerateName())})
		}
	}
	return manifests, errors.Join(errs...)
}

// note ends what is said of an object: the ClusterIP of a Service that is
// new, which the user is about to need, or that nothing was done.
func (w *writeCommand) note(obj registry.Object, done string) string {
	if note := w.dryRun.suffix(); note != "" {
		return note
	}
	svc, ok := obj.(*corev1.Service)
	if !ok || done != "created" && done != "exposed" || len(registry.ClusterIPs(svc)) == 0 {
		return ""
	}
	return " (" + svc.Spec.ClusterIP + ")"
}
