package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/client"
	"usher/registry"
)

// A query is what get was asked for.
type query struct {
	*globals
	picking        picking
	print          printFlags
	printer        objectPrinter // nil: a table
	raw            string
	sortBy         string
	labelColumns   []string
	showKind       bool
	chunkSize      int64
	watch          bool
	showLabels     bool
	ignoreNotFound bool
}

func newGetCommand(g *globals) *cobra.Command {
	q := &query{globals: g}
	cmd := &cobra.Command{
		Use:   "get (-f FILE | TYPE[,TYPE...] [NAME...] | --raw PATH)",
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
  usher get svc web -o jsonpath='{.spec.clusterIP}'
  usher get pods -L app --sort-by=.status.podIP
  usher get svc -A -o custom-columns=NAME:.metadata.name,IP:.spec.clusterIP
  usher get --raw /openapi/v3
  usher get connections payment-service -n finance`,
		RunE: func(cmd *cobra.Command, args []string) error { return q.run(cmd.Context(), args) },
	}
	q.picking.addFlags(cmd)
	q.print.addFlags(cmd, getFormats...)
	f := cmd.Flags()
	f.BoolVarP(&q.watch, "watch", "w", false, "go on with what changes")
	f.StringVar(&q.raw, "raw", "", "a path of the API: its answer as it is")
	f.StringVar(&q.sortBy, "sort-by", "", "JSONPath of the field by which the objects are sorted")
	f.StringSliceVarP(&q.labelColumns, "label-columns", "L", nil, "labels that get a column of their own")
	f.BoolVar(&q.showKind, "show-kind", false, "the type in front of names")
	f.Int64Var(&q.chunkSize, "chunk-size", 500, "how many objects of a list are asked for at once; 0: all")
	f.BoolVar(&q.print.noHeaders, "no-headers", false, "no line with the names of the columns")
	f.BoolVar(&q.showLabels, "show-labels", false, "labels as the last column")
	f.BoolVar(&q.ignoreNotFound, "ignore-not-found", false, "an object that is not there is no error")
	cmd.ValidArgsFunction = g.completeObjects
	return cmd
}

func (q *query) run(ctx context.Context, args []string) error {
	if q.raw != "" {
		return q.getRaw(ctx, args)
	}
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
	if q.watch && q.sortBy != "" {
		fmt.Fprintln(q.env.Stderr, "warning: --watch requested, --sort-by will be ignored for watch events received")
	}
	switch {
	case q.watch:
		return q.follow(ctx, c, targets[0])
	case q.printer == nil:
		return q.tables(ctx, c, targets)
	}
	return q.objects(ctx, c, targets)
}

// targets reads the arguments or the files, and refuses flags that do not go
// with them. Files may have none.
func (q *query) targets(args []string) ([]target, error) {
	printer, err := q.print.printer()
	if err != nil {
		return nil, err
	}
	q.printer = printer
	switch {
	case q.showLabels && printer != nil:
		return nil, usagef("--show-labels option cannot be used with %s printer", q.print.output)
	case len(q.labelColumns) > 0 && strings.HasPrefix(q.print.output, "custom-columns"):
		return nil, usagef("--label-columns option cannot be used with %s printer", q.print.output)
	}
	targets, err := q.read(args)
	switch {
	case err != nil || len(targets) == 0:
		return nil, err
	case hasNames(targets) && q.picking.everywhere:
		return nil, usagef("a resource cannot be retrieved by name across all namespaces")
	case hasNames(targets) && q.picking.selects():
		return nil, usagef("name cannot be provided when a selector is specified")
	case q.watch && (len(targets) > 1 || len(targets[0].names) > 1):
		return nil, usagef("you may only specify a single resource type, and one name, with --watch")
	}
	return targets, nil
}

func (q *query) read(args []string) ([]target, error) {
	switch {
	case len(q.picking.files.paths) == 0:
		return parseTargets(args)
	case len(args) > 0:
		return nil, usagef("when paths are provided as input, you may not specify resources by arguments as well")
	}
	keys, err := q.readKeys(q.picking.files, "reading")
	return targetsOf(keys), err
}

func (q *query) options() client.ListOptions {
	o := q.picking.options()
	o.Limit = q.chunkSize
	return o
}

func (q *query) collection(k *registry.Kind) registry.Key { return q.picking.collection(q.globals, k) }

// absent reports whether err is one that --ignore-not-found is about.
func (q *query) absent(err error) bool { return q.ignoreNotFound && apierrors.IsNotFound(err) }

// objects prints the objects themselves.
func (q *query) objects(ctx context.Context, c *client.Client, targets []target) error {
	found, err := q.find(ctx, c, targets)
	one := len(targets) == 1 && len(targets[0].names) == 1
	if one && len(found) == 0 || err != nil && len(found) == 0 {
		return err
	}
	if err := sortByPath(found, q.sortBy, func(obj registry.Object) (any, error) { return generic(obj) }); err != nil {
		return err
	}
	return errors.Join(q.printer(q.env.Stdout, found, one), err)
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
		if err := sortByPath(table.Rows, q.sortBy, rowObject); err != nil {
			return err
		}
		view := q.view(t.kind, len(targets) > 1)
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
		return c.Table(ctx, q.collection(t.kind), q.options(), q.include())
	}
	var all *metav1.Table
	var errs []error
	for _, key := range q.keysOf(t) {
		one, err := c.Table(ctx, key, client.ListOptions{}, q.include())
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

// include says how much of the objects a table needs.
func (q *query) include() metav1.IncludeObjectPolicy {
	if q.sortBy != "" {
		return metav1.IncludeObject
	}
	return metav1.IncludeMetadata
}

func (q *query) view(k *registry.Kind, several bool) tableView {
	view := tableView{
		wide: q.print.output == "wide", namespace: q.picking.everywhere && k.Namespaced,
		columns: q.labelColumns, labels: q.showLabels, header: !q.print.noHeaders,
	}
	if q.showKind || several {
		view.typed = typeName(k) + "/"
	}
	return view
}

func (q *query) sayNone(targets []target) {
	if q.picking.everywhere || len(targets) > 0 && !targets[0].kind.Namespaced {
		fmt.Fprintln(q.env.Stderr, "No resources found")
		return
	}
	fmt.Fprintf(q.env.Stderr, "No resources found in %s namespace.\n", q.requestNamespace())
}
