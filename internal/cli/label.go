package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"usher/registry"
)

func newLabelCommand(g *globals) *cobra.Command {
	m := &metadataCommand{
		globals: g, word: "label",
		of: registry.Object.GetLabels, set: registry.Object.SetLabels,
		parse: parseLabelChanges,
		refuse: func(set []string) error {
			var errs []error
			for _, text := range set {
				errs = append(errs, errors.New(text+", and --overwrite is false"))
			}
			return errors.Join(errs...)
		},
		done: func(added, removed bool) string {
			switch {
			case added && removed:
				return "modified"
			case added:
				return "labeled"
			case removed:
				return "unlabeled"
			}
			return "not labeled"
		},
	}
	return m.command(&cobra.Command{
		Use:   "label (-f FILE | TYPE NAME... | TYPE -l SELECTOR | TYPE --all) KEY=VALUE... KEY-...",
		Short: "Set and remove labels of objects",
		Long: `Set labels of objects, KEY=VALUE, and remove others, KEY-. A label that has another
value is only changed with --overwrite.`,
		Example: `  usher label svc web tier=front
  usher label pods --all canary-
  usher label svc web tier=back --overwrite
  usher label svc web --list`,
	})
}

// parseLabelChanges reads KEY=VALUE and KEY-.
func parseLabelChanges(args []string) (changes, error) {
	wanted := make(changes)
	for _, arg := range args {
		key, value, set := strings.Cut(arg, "=")
		switch {
		case strings.Contains(value, "="):
			return nil, fmt.Errorf("invalid label spec: %v", arg)
		case !set:
			key = strings.TrimSuffix(key, "-")
		default:
			if errs := validation.IsValidLabelValue(value); len(errs) > 0 {
				return nil, fmt.Errorf("invalid label value: %q: %s", arg, strings.Join(errs, ";"))
			}
		}
		if !wanted.put(key, value, set) {
			return nil, errors.New("can not both modify and remove a label in the same command")
		}
	}
	return wanted, nil
}
