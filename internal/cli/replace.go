package cli

import (
	"context"

	"github.com/spf13/cobra"

	"usher/internal/client"
	"usher/registry"
)

func newReplaceCommand(g *globals) *cobra.Command {
	w := &writeCommand{globals: g, verb: "replacing", done: "replaced", send: replaceObject, named: true}
	return w.command(&cobra.Command{
		Use: "replace -f FILE", Short: "Replace objects by those of manifests",
		Long: `Replace objects by those of manifests. An object that does not exist is an error,
and so is one that has changed since, if the manifest has its resourceVersion.

The objects are checked before the first one is sent: when one is wrong, none is
replaced.`,
		Example: `  usher replace -f service.yaml
  usher get svc web -o yaml | sed s/8080/8081/ | usher replace -f -`,
	})
}

func replaceObject(ctx context.Context, c *client.Client, m manifest) (registry.Object, string, error) {
	out, err := c.Update(ctx, m.object)
	return out, "replaced", err
}
