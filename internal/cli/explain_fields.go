package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"usher/registry"
)

// plaintext is the format in which explain shows fields.
const plaintext = "plaintext"

// A fieldsQuery is what explain was asked of a type.
type fieldsQuery struct {
	*globals
	recursive  bool
	depth      int
	apiVersion string
}

func (q *fieldsQuery) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVarP(&q.recursive, "recursive", "R", false, "of a type: the fields of fields too, without what they mean")
	f.IntVar(&q.depth, "max-depth", 0, "with --recursive, how deep; 0: to the end")
	f.StringVar(&q.apiVersion, "api-version", "", "of a type: its group and version, GROUP/VERSION")
}

func (q *fieldsQuery) run(ctx context.Context, name, output string) error {
	switch {
	case q.depth > 0 && !q.recursive:
		return usagef("--max-depth requires --recursive")
	case q.depth < 0:
		return usagef("--max-depth must be non-negative")
	}
	if err := checkOutput(output, plaintext); err != nil {
		return err
	}
	kind, path, err := splitFields(name)
	if err != nil {
		return err
	}
	gv := kind.GroupVersion()
	if q.apiVersion != "" {
		if gv, err = schema.ParseGroupVersion(q.apiVersion); err != nil {
			return usageError{err}
		}
	}
	c, err := q.client()
	if err != nil {
		return err
	}
	defer c.Close()
	doc, err := c.OpenAPI(ctx, gv)
	if err != nil {
		return err
	}
	page := &fieldsPage{document: doc, recursive: q.recursive, depth: q.depth}
	text, err := page.text(gv.WithKind(kind.Kind), path)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(q.env.Stdout, text)
	return err
}

// splitFields reads TYPE[.FIELD…]. A type may have dots itself:
// endpointslices.discovery.k8s.io.
func splitFields(name string) (*registry.Kind, []string, error) {
	parts := strings.Split(strings.TrimSuffix(name, "."), ".")
	for n := len(parts); n > 0; n-- {
		if kind, err := kindNamed(strings.Join(parts[:n], ".")); err == nil {
			return kind, parts[n:], nil
		}
	}
	_, err := kindNamed(parts[0])
	return nil, nil, err
}
