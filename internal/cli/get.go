package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/client"
	"usher/registry"
)

// A query is what get was asked for.
type query struct {
	*globals
	files          files
	output         string
	everywhere     bool
	selector       string
	fieldSelector  string
	watch          bool
	noHeaders      bool
	showLabels     bool
	ignoreNotFound bool
}

var getFormats = []string{"wide", "json", "yaml", "name"}

func newGetCommand(g *globals) *cobra.Command {
	q := &query{globals: g}
	cmd := &cobra.Command{
		Use:   "get (-f FILE | TYPE[,TYPE...] [NAME...])",
		Short: "Show objects",
		Long: `Show objects: all of a type, those that are named, or those that manifests are
about, as they are now. The types are services
(svc), pods (po), endpointslices, endpoints (ep), events (ev), namespaces (ns),
nodes (no) and ipaddresses (ip); "all" is pods, services and endpointslices.

connections (conn) are what is open now through this node's proxy, of all Services
or of those that are named.`,
		Example: `  usher get svc,endpointslices -A
  usher get svc payment-service -n finance -o wide
  usher get svc/web pod/web-0 -o yaml
  usher get -f service.yaml
  usher get pods -l app=payment -w
  usher get connections payment-service -n finance`,
		RunE: func(cmd *cobra.Command, args []string) error { return q.run(cmd.Context(), args) },
	}
	q.files.addFlags(cmd)
	addOutputFlag(cmd, &q.output, getFormats...)
	f := cmd.Flags()
	f.BoolVarP(&q.everywhere, "all-namespaces", "A", false, "in all namespaces")
	f.StringVarP(&q.selector, "selector", "l", "", "label selector")
	f.StringVar(&q.fieldSelector, "field-selector", "", "field selector")
	f.BoolVarP(&q.watch, "watch", "w", false, "go on with what changes")
	f.BoolVar(&q.noHeaders, "no-headers", false, "no line with the names of the columns")
	f.BoolVar(&q.showLabels, "show-labels", false, "labels as the last column")
	f.BoolVar(&q.ignoreNotFound, "ignore-not-found", false, "an object that is not there is no error")
	cmd.ValidArgsFunction = g.completeObjects
	return cmd
}

func (q *query) run(ctx context.Context, args []string) error {
	if asksForConnections(args) {
		return q.connections(ctx, args[1:])
	}
	targets, err := q.targets(args)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		q.sayNone(nil)
		return nil
	}
	c, err := q.client()
	if err != nil {
		return err
	}
	defer c.Close()
	switch {
	case q.watch:
		return q.follow(ctx, c, targets[0])
	case q.output == "" || q.output == "wide":
		return q.tables(ctx, c, targets)
	}
	return q.objects(ctx, c, targets)
}

// targets reads the arguments or the files, and refuses flags that do not go
// with them. Files may have none.
func (q *query) targets(args []string) ([]target, error) {
	if err := checkOutput(q.output, getFormats...); err != nil {
		return nil, err
	}
	if q.showLabels && q.output != "" && q.output != "wide" {
		return nil, usagef("--show-labels option cannot be used with %s printer", q.output)
	}
	targets, err := q.read(args)
	switch {
	case err != nil || len(targets) == 0:
		return nil, err
	case hasNames(targets) && q.everywhere:
		return nil, usagef("a resource cannot be retrieved by name across all namespaces")
	case hasNames(targets) && (q.selector != "" || q.fieldSelector != ""):
		return nil, usagef("name cannot be provided when a selector is specified")
	case q.watch && (len(targets) > 1 || len(targets[0].names) > 1):
		return nil, usagef("you may only specify a single resource type, and one name, with --watch")
	}
	return targets, nil
}

func (q *query) read(args []string) ([]target, error) {
	switch {
	case len(q.files.paths) == 0:
		return parseTargets(args)
	case len(args) > 0:
		return nil, usagef("when paths are provided as input, you may not specify resources by arguments as well")
	}
	keys, err := q.readKeys(q.files, "reading")
	return targetsOf(keys), err
}

func (q *query) options() client.ListOptions {
	return client.ListOptions{LabelSelector: q.selector, FieldSelector: q.fieldSelector}
}

// collection returns the key of all objects of a Kind that are asked for.
func (q *query) collection(k *registry.Kind) registry.Key {
	key := q.key(k, "")
	if q.everywhere {
		key.Namespace = ""
	}
	return key
}

// absent reports whether err is one that --ignore-not-found is about.
func (q *query) absent(err error) bool { return q.ignoreNotFound && apierrors.IsNotFound(err) }

// objects prints the objects themselves.
func (q *query) objects(ctx context.Context, c *client.Client, targets []target) error {
	found, err := q.find(ctx, c, targets)
	one := len(targets) == 1 && len(targets[0].names) == 1
	if one && len(found) == 0 || err != nil && len(found) == 0 {
		return err
	}
	return errors.Join(printObjects(q.env.Stdout, q.output, found, one), err)
}

// find returns the objects that are there, and an error for each that is not.
func (q *query) find(ctx context.Context, c *client.Client, targets []target) ([]registry.Object, error) {
	var found []registry.Object
	var errs []error
	for _, t := range targets {
		for _, key := range q.keysOf(t) {
			obj, err := c.Get(ctx, key)
			switch {
			case err == nil:
				found = append(found, obj)
			case !q.absent(err):
				errs = append(errs, err)
			}
		}
		if len(t.names) == 0 {
			list, err := c.List(ctx, t.kind, q.collection(t.kind).Namespace, q.options())
			if err != nil {
				errs = append(errs, err)
				continue
			}
			found = append(found, list.Items...)
		}
	}
	return found, errors.Join(errs...)
}

// tables prints what the server makes of the objects.
func (q *query) tables(ctx context.Context, c *client.Client, targets []target) error {
	var errs []error
	printed := false
	for _, t := range targets {
		table, err := q.table(ctx, c, t)
		if err != nil {
			errs = append(errs, err)
		}
		if table == nil || len(table.Rows) == 0 {
			continue
		}
		view := q.view(t.kind)
		if len(targets) > 1 {
			view.typed = typeName(t.kind) + "/"
		}
		rows := view.rows(table)
		if printed {
			rows = append([][]string{{}}, rows...) // an empty line
		}
		printed = true
		if err := (&tablePrinter{w: q.env.Stdout}).print(rows); err != nil {
			return err
		}
	}
	if !printed && len(errs) == 0 && !hasNames(targets) {
		q.sayNone(targets)
	}
	return errors.Join(errs...)
}

// table returns the table of a target: of what is there, beside an error for
// what is not.
func (q *query) table(ctx context.Context, c *client.Client, t target) (*metav1.Table, error) {
	if len(t.names) == 0 {
		return c.Table(ctx, q.collection(t.kind), q.options())
	}
	var all *metav1.Table
	var errs []error
	for _, key := range q.keysOf(t) {
		one, err := c.Table(ctx, key, client.ListOptions{})
		switch {
		case q.absent(err):
		case err != nil:
			errs = append(errs, err)
		case all == nil:
			all = one
		default:
			all.Rows = append(all.Rows, one.Rows...)
		}
	}
	return all, errors.Join(errs...)
}

func (q *query) view(k *registry.Kind) tableView {
	return tableView{
		wide: q.output == "wide", namespace: q.everywhere && k.Namespaced,
		labels: q.showLabels, header: !q.noHeaders,
	}
}

func (q *query) sayNone(targets []target) {
	if q.everywhere || len(targets) > 0 && !targets[0].kind.Namespaced {
		fmt.Fprintln(q.env.Stderr, "No resources found")
		return
	}
	fmt.Fprintf(q.env.Stderr, "No resources found in %s namespace.\n", q.requestNamespace())
}
