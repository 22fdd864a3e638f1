package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"usher/internal/client"
	"usher/registry"
)

// A picking is which objects a command is about: those of files, by name, or
// of a type.
type picking struct {
	files         files
	selector      string
	fieldSelector string
	all           bool
	everywhere    bool
}

// addFlags gives cmd the flags by which objects of a type are selected, and -f.
func (p *picking) addFlags(cmd *cobra.Command) {
	p.files.addFlags(cmd)
	f := cmd.Flags()
	f.StringVarP(&p.selector, "selector", "l", "", "label selector")
	f.StringVar(&p.fieldSelector, "field-selector", "", "field selector")
	f.BoolVarP(&p.everywhere, "all-namespaces", "A", false, "in all namespaces")
}

// addAllFlag gives cmd the flag without which a type alone picks nothing.
func (p *picking) addAllFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.all, "all", false, "all objects of the type in the namespace")
}

// selects reports whether objects are picked by what they are, not by name.
func (p *picking) selects() bool { return p.all || p.selector != "" || p.fieldSelector != "" }

// check refuses flags and arguments that do not go together.
func (p *picking) check(args []string) error {
	switch {
	case p.all && p.selector != "":
		return usagef("cannot set --all and --selector at the same time")
	case p.all && p.fieldSelector != "":
		return usagef("cannot set --all and --field-selector at the same time")
	case len(p.files.paths) > 0 && len(args) > 0:
		return usagef("when paths are provided as input, you may not specify resources by arguments as well")
	case len(p.files.paths) > 0 && (p.selects() || p.everywhere):
		return usagef("when paths are provided as input, you may not specify --all, -l or -A as well")
	case len(p.files.paths) > 0:
		return nil
	case len(args) == 0:
		return usagef("one or more resources must be specified as <resource> <name> or <resource>/<name>")
	}
	targets, err := parseTargets(args)
	switch {
	case err != nil:
		return err
	case hasNames(targets) && p.selects():
		return usagef("name cannot be provided when a selector is specified")
	case hasNames(targets) && p.everywhere:
		return usagef("a resource cannot be retrieved by name across all namespaces")
	case !hasNames(targets) && !p.selects():
		return usagef("resource(s) were provided, but no name was specified")
	}
	return nil
}

// keys returns the keys of what is picked by name or by files, or nil when
// objects are selected. verb is what is done to them, as in "waiting for".
func (p *picking) keys(g *globals, args []string, verb string) ([]registry.Key, error) {
	if len(p.files.paths) > 0 {
		return g.readKeys(p.files, verb)
	}
	targets, err := parseTargets(args)
	if err != nil || !hasNames(targets) {
		return nil, err
	}
	var keys []registry.Key
	for _, t := range targets {
		keys = append(keys, g.keysOf(t)...)
	}
	return keys, nil
}

// objects returns the objects that are picked, and an error for each that is
// not there. one reports whether one was asked for by name.
func (p *picking) objects(ctx context.Context, g *globals, c *client.Client, args []string, verb string) (objects []registry.Object, one bool, err error) {
	keys, err := p.keys(g, args, verb)
	if err != nil {
		return nil, false, err
	}
	var errs []error
	if keys == nil && len(p.files.paths) == 0 {
		objects, err = p.selected(ctx, g, c, args)
		return objects, false, err
	}
	for _, key := range keys {
		obj, err := c.Get(ctx, key)
		if err != nil {
			errs = append(errs, err)
			if !errors.As(err, new(*apierrors.StatusError)) {
				break // nobody answers: nor will they for the rest
			}
			continue
		}
		objects = append(objects, obj)
	}
	return objects, len(keys) == 1, errors.Join(errs...)
}

// selected returns the objects of the types that are selected.
func (p *picking) selected(ctx context.Context, g *globals, c *client.Client, args []string) ([]registry.Object, error) {
	targets, err := parseTargets(args)
	if err != nil {
		return nil, err
	}
	var objects []registry.Object
	for _, t := range targets {
		list, err := c.List(ctx, t.kind, p.collection(g, t.kind).Namespace, p.options())
		if err != nil {
			return nil, err
		}
		objects = slices.Concat(objects, list.Items)
	}
	return objects, nil
}

// collection returns the key of all objects of a Kind that may be selected.
func (p *picking) collection(g *globals, k *registry.Kind) registry.Key {
	key := g.key(k, "")
	if p.everywhere {
		key.Namespace = ""
	}
	return key
}

func (p *picking) options() client.ListOptions {
	return client.ListOptions{LabelSelector: p.selector, FieldSelector: p.fieldSelector}
}
