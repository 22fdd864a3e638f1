package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"usher/internal/client"
	"usher/registry"
)

// A metadataCommand sets and removes pairs in the metadata of objects: labels
// or annotations.
type metadataCommand struct {
	*globals
	picking         picking
	print           printFlags
	dryRun          dryRun
	overwrite       bool
	list            bool
	resourceVersion string

	name string // of the command: "label" or "annotate"
	word string // for what it sets: "label" or "annotation"

	// of returns the pairs of an object, and set replaces them.
	of  func(registry.Object) map[string]string
	set func(registry.Object, map[string]string)
	// parse reads KEY=VALUE and KEY-.
	parse func(args []string) (changes, error)
	// refuse says why pairs that are set may not be set again.
	refuse func(set []string) error
	// done says what was done.
	done func(added, removed bool) string
}

// changes are what becomes of pairs: nil for one that is removed.
type changes map[string]*string

// put adds a change: a value that is set, or a key that is removed. It reports
// false for a key of which the other was wanted before.
func (c changes) put(key, value string, set bool) bool {
	other, given := c[key]
	c[key] = nil
	if set {
		c[key] = &value
	}
	return !given || (other != nil) == set
}

// field returns the name of the pairs in the metadata.
func (m *metadataCommand) field() string { return m.word + "s" }

// command makes cmd the command that m is of.
func (m *metadataCommand) command(cmd *cobra.Command) *cobra.Command {
	m.name = cmd.Name()
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return m.run(cmd.Context(), args) }
	m.picking.addFlags(cmd)
	m.picking.addAllFlag(cmd)
	m.print.addFlags(cmd)
	m.dryRun.addFlag(cmd)
	f := cmd.Flags()
	f.BoolVar(&m.overwrite, "overwrite", false, "also where there is another value")
	f.BoolVar(&m.list, "list", false, "print the "+m.field()+" of the objects")
	f.StringVar(&m.resourceVersion, "resource-version", "", "only if this is the resourceVersion of the object")
	cmd.ValidArgsFunction = m.completeObjects
	return cmd
}

func (m *metadataCommand) run(ctx context.Context, args []string) error {
	resources, wanted, printer, err := m.check(args)
	if err != nil {
		return err
	}
	c, err := m.client()
	if err != nil {
		return err
	}
	defer c.Close()
	c.DryRun = m.dryRun == dryRunServer
	objects, one, err := m.picking.objects(ctx, m.globals, c, resources, m.name+"ing")
	if err == nil && m.resourceVersion != "" && !one {
		return usagef("--resource-version may only be used with a single resource")
	}
	errs := []error{err}
	for _, obj := range objects {
		if m.list {
			errs = append(errs, m.show(obj, one))
			continue
		}
		errs = append(errs, m.change(ctx, c, obj, wanted, printer))
	}
	return errors.Join(errs...)
}

// check reads the arguments: resources first, and then what is to be changed.
func (m *metadataCommand) check(args []string) (resources []string, wanted changes, printer objectPrinter, err error) {
	var pairs []string
	for _, arg := range args {
		isPair := strings.Contains(arg, "=") && arg[0] != '=' || strings.HasSuffix(arg, "-") && arg != "-"
		switch {
		case isPair:
			pairs = append(pairs, arg)
		case len(pairs) > 0:
			return nil, nil, nil, usagef("all resources must be specified before %s changes: %s", m.word, arg)
		default:
			resources = append(resources, arg)
		}
	}
	if wanted, err = m.parse(pairs); err != nil {
		return nil, nil, nil, usageError{err}
	}
	if printer, err = m.print.printer(); err != nil {
		return nil, nil, nil, err
	}
	switch {
	case m.list && m.print.output != "":
		err = usagef("--list and --output may not be specified together")
	case len(wanted) == 0 && !m.list:
		err = usagef("at least one %s update is required", m.word)
	default:
		err = errors.Join(m.dryRun.check(), m.picking.check(resources))
	}
	return resources, wanted, printer, err
}

// change changes the pairs of one object, and says what it did.
func (m *metadataCommand) change(ctx context.Context, c *client.Client, obj registry.Object, wanted changes, printer objectPrinter) error {
	old := m.of(obj)
	if err := m.conflicts(old, wanted); err != nil {
		return err
	}
	added, removed := false, false
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		value := wanted[key]
		was, there := old[key]
		switch {
		case value != nil:
			added = added || !there || was != *value
		case there:
			removed = true
		case m.word == "label":
			fmt.Fprintf(m.env.Stdout, "label %q not found.\n", key)
		}
	}
	var err error
	switch {
	case m.dryRun == dryRunClient:
		m.set(obj, wanted.in(old))
	case added || removed:
		obj, err = m.send(ctx, c, registry.KeyOf(obj), wanted)
	}
	if err != nil {
		return err
	}
	if printer != nil {
		return printer(m.env.Stdout, []registry.Object{obj}, true)
	}
	_, err = fmt.Fprintf(m.env.Stdout, "%s %s%s\n", objectName(registry.KeyOf(obj)), m.done(added, removed), m.dryRun.suffix())
	return err
}

// send sends changes as a patch. What is set this way stays when a manifest is
// applied that does not say it: the manager is not that of apply.
func (m *metadataCommand) send(ctx context.Context, c *client.Client, key registry.Key, wanted changes) (registry.Object, error) {
	metadata := map[string]any{m.field(): wanted}
	if m.resourceVersion != "" {
		metadata["resourceVersion"] = m.resourceVersion
	}
	patch, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return nil, err
	}
	return c.Patch(ctx, key, types.MergePatchType, patch, client.PatchOptions{FieldManager: "usher-" + m.name})
}

// in returns pairs with the changes.
func (c changes) in(pairs map[string]string) map[string]string {
	pairs = maps.Clone(pairs)
	if pairs == nil {
		pairs = make(map[string]string)
	}
	for key, value := range c {
		if value == nil {
			delete(pairs, key)
		} else {
			pairs[key] = *value
		}
	}
	return pairs
}

// conflicts refuses to change a value that is there, without --overwrite.
func (m *metadataCommand) conflicts(old map[string]string, wanted changes) error {
	var set []string
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		if was, there := old[key]; there && wanted[key] != nil && was != *wanted[key] {
			set = append(set, fmt.Sprintf("'%s' already has a value (%s)", key, was))
		}
	}
	if m.overwrite || len(set) == 0 {
		return nil
	}
	return m.refuse(set)
}

// show prints the pairs of an object.
func (m *metadataCommand) show(obj registry.Object, one bool) error {
	key := registry.KeyOf(obj)
	var text strings.Builder
	indent := ""
	if !one {
		fmt.Fprintf(&text, "Listing %s for %s.%s/%s:\n", m.field(), key.Kind.Kind, key.Kind.Group, key.Name)
		indent = " "
	}
	pairs := m.of(obj)
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		fmt.Fprintf(&text, "%s%s=%s\n", indent, key, printable(pairs[key]))
	}
	_, err := fmt.Fprint(m.env.Stdout, text.String())
	return err
}
