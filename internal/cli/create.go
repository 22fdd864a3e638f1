package cli

import (
	"context"

	"github.com/spf13/cobra"

	"usher/internal/client"
	"usher/registry"
)

func newCreateCommand(g *globals) *cobra.Command {
	w := &writeCommand{globals: g, verb: "creating", done: "created", send: createObject}
	return w.command(&cobra.Command{
		Use: "create -f FILE", Short: "Create the objects of manifests",
		Long: `Create the objects of manifests. An object that exists already is an error.

The objects are checked before the first one is sent: when one is wrong, none is
created.`,
		Example: `  usher create -f service.yaml
  usher create -f service.yaml -o yaml`,
	})
}

func createObject(ctx context.Context, c *client.Client, obj registry.Object) (registry.Object, string, error) {
	out, err := c.Create(ctx, obj)
	return out, "created", err
}
