package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// A resourceQuery is what api-resources was asked for.
type resourceQuery struct {
	*globals
	output     string
	noHeaders  bool
	group      *string // nil: all
	namespaced *bool   // nil: both
	verbs      []string
	categories []string
	sortBy     string
}

func newAPIResourcesCommand(g *globals) *cobra.Command {
	q := &resourceQuery{globals: g}
	var group string
	var namespaced bool
	cmd := &cobra.Command{
		Use:   "api-resources",
		Short: "Show the types of objects that there are",
		Example: `  usher api-resources
  usher api-resources -o wide --sort-by=name
  usher api-resources --namespaced=false`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("api-group") {
				q.group = &group
			}
			if cmd.Flags().Changed("namespaced") {
				q.namespaced = &namespaced
			}
			return q.run(cmd.Context())
		},
	}
	addOutputFlag(cmd, &q.output, "wide", "name")
	f := cmd.Flags()
	f.BoolVar(&q.noHeaders, "no-headers", false, "no line with the names of the columns")
	f.StringVar(&group, "api-group", "", "those of a group alone")
	f.BoolVar(&namespaced, "namespaced", true, "those in namespaces alone, or with false the others")
	f.StringSliceVar(&q.verbs, "verbs", nil, "those that have these verbs alone")
	f.StringSliceVar(&q.categories, "categories", nil, "those that are of these categories alone")
	f.StringVar(&q.sortBy, "sort-by", "", "name or kind")
	complete(cmd, "sort-by", cobra.FixedCompletions([]string{"name", "kind"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (q *resourceQuery) run(ctx context.Context) error {
	if err := checkOutput(q.output, "wide", "name"); err != nil {
		return err
	}
	if !slices.Contains([]string{"", "name", "kind"}, q.sortBy) {
		return usagef("--sort-by accepts only name or kind")
	}
	resources, err := q.resources(ctx)
	if err != nil {
		return err
	}
	if q.output == "name" {
		for _, r := range resources {
			if _, err := fmt.Fprintln(q.env.Stdout, schema.GroupResource{Group: r.Group, Resource: r.Name}); err != nil {
				return err
			}
		}
		return nil
	}
	return (&tablePrinter{w: q.env.Stdout}).print(q.rows(resources))
}

// resources asks for the resources, and returns those that are wanted in their
// order.
func (q *resourceQuery) resources(ctx context.Context) ([]metav1.APIResource, error) {
	c, err := q.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	versions, err := c.GroupVersions(ctx)
	if err != nil {
		return nil, err
	}
	var all []metav1.APIResource
	for _, gv := range versions {
		list, err := c.Resources(ctx, gv)
		if err != nil {
			return nil, err
		}
		for _, r := range list.APIResources {
			r.Group, r.Version = gv.Group, gv.Version
			if !strings.Contains(r.Name, "/") && q.wants(r) {
				all = append(all, r)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b metav1.APIResource) int {
		order := cmp.Compare(a.Group, b.Group)
		switch q.sortBy {
		case "name":
			order = 0
		case "kind":
			order = cmp.Compare(a.Kind, b.Kind)
		}
		return cmp.Or(order, cmp.Compare(a.Name, b.Name))
	})
	return all, nil
}

func (q *resourceQuery) wants(r metav1.APIResource) bool {
	lacks := func(list []string) func(string) bool {
		return func(s string) bool { return !slices.Contains(list, s) }
	}
	return (q.group == nil || *q.group == r.Group) &&
		(q.namespaced == nil || *q.namespaced == r.Namespaced) &&
		!slices.ContainsFunc(q.verbs, lacks(r.Verbs)) &&
		!slices.ContainsFunc(q.categories, lacks(r.Categories))
}

func (q *resourceQuery) rows(resources []metav1.APIResource) [][]string {
	wide := q.output == "wide"
	var rows [][]string
	if !q.noHeaders {
		head := []string{"NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"}
		if wide {
			head = append(head, "VERBS", "CATEGORIES")
		}
		rows = append(rows, head)
	}
	for _, r := range resources {
		version := schema.GroupVersion{Group: r.Group, Version: r.Version}
		row := []string{r.Name, strings.Join(r.ShortNames, ","), version.String(), fmt.Sprint(r.Namespaced), r.Kind}
		if wide {
			row = append(row, strings.Join(r.Verbs, ","), strings.Join(r.Categories, ","))
		}
		rows = append(rows, row)
	}
	return rows
}
