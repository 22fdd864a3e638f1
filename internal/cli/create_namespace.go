package cli

import (
	"github.com/spf13/cobra"

	"usher/registry"
)

func newCreateNamespaceCommand(g *globals) *cobra.Command {
	return newCreateOneCommand(g, &cobra.Command{
		Use: "namespace NAME", Aliases: []string{"ns"}, Short: "Create a namespace",
		Long:    `Create a namespace. There is no need to: it is made with the first object in it.`,
		Example: "  usher create namespace finance",
	}, func(err error) error { return err }, func(name string) (registry.Object, error) {
		obj := registry.Namespaces.New()
		obj.SetName(name)
		return obj, nil
	})
}
