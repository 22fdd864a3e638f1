package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

func newAPIVersionsCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "api-versions",
		Short:   "Show the groups and versions of types that there are",
		Example: "  usher api-versions",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			versions, err := c.GroupVersions(cmd.Context())
			if err != nil {
				return err
			}
			var names []string
			for _, gv := range versions {
				names = append(names, gv.String())
			}
			slices.Sort(names)
			for _, name := range names {
				if _, err := fmt.Fprintln(g.env.Stdout, name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
