package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"usher/registry"
)

func newAnnotateCommand(g *globals) *cobra.Command {
	m := &metadataCommand{
		globals: g, word: "annotation",
		of: registry.Object.GetAnnotations, set: registry.Object.SetAnnotations,
		parse: parseAnnotationChanges,
		refuse: func(set []string) error {
			return fmt.Errorf("--overwrite is false but found the following declared annotation(s): %s", strings.Join(set, "; "))
		},
		done: func(added, removed bool) string { return "annotated" },
	}
	return m.command(&cobra.Command{
		Use:   "annotate (-f FILE | TYPE NAME... | TYPE -l SELECTOR | TYPE --all) KEY=VALUE... KEY-...",
		Short: "Set and remove annotations of objects",
		Long: `Set annotations of objects, KEY=VALUE, and remove others, KEY-. An annotation that
has another value is only changed with --overwrite.`,
		Example: `  usher annotate svc web description='the front door'
  usher annotate svc web usher.internal/balancer=least-connections --overwrite
  usher annotate svc web description-`,
	})
}

// parseAnnotationChanges reads KEY=VALUE and KEY-.
func parseAnnotationChanges(args []string) (changes, error) {
	wanted := make(changes)
	var both []string
	for _, arg := range args {
		key, value, set := strings.Cut(arg, "=")
		if !set {
			key = strings.TrimSuffix(key, "-")
		}
		if !wanted.put(key, value, set) {
			both = append(both, key)
		}
	}
	if len(both) > 0 {
		return nil, fmt.Errorf("can not both modify and remove the following annotation(s) in the same command: %s", strings.Join(both, ", "))
	}
	return wanted, nil
}
