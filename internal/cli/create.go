package cli

import (
	"context"

	"github.com/spf13/cobra"

	"usher/internal/client"
	"usher/registry"
)

func newCreateCommand(g *globals) *cobra.Command {
	w := &writeCommand{globals: g, verb: "creating", done: "created", send: createObject}
	cmd := w.command(&cobra.Command{
		Use: "create -f FILE", Short: "Create the objects of manifests, or others that are described by flags",
		Long: `Create the objects of manifests, or one that is described by arguments and flags.
An object that exists already is an error.

The objects are checked before the first one is sent: when one is wrong, none is
created.`,
		Example: `  usher create -f service.yaml
  usher create -f service.yaml -o yaml
  usher create service clusterip web --tcp=80:8080`,
	})
	cmd.AddCommand(newCreateServiceCommand(g), newCreateNamespaceCommand(g))
	return cmd
}

// newCreateOneCommand returns what creates the object that make describes, of
// the name that is its argument.
func newCreateOneCommand(g *globals, cmd *cobra.Command, wrap func(error) error, make func(name string) (registry.Object, error)) *cobra.Command {
	w := &writeCommand{globals: g, verb: "creating", done: "created", send: createObject, wrap: wrap}
	w.addFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usagef("exactly one NAME is required, got %d", len(args))
		}
		return w.run(cmd.Context(), func() ([]manifest, error) {
			obj, err := make(args[0])
			if err != nil {
				return nil, err
			}
			return []manifest{w.described(obj)}, nil
		})
	}
	return cmd
}

// described returns an object that flags describe as a manifest. One that is
// only printed, for a file, is in no namespace unless that was said.
func (w *writeCommand) described(obj registry.Object) manifest {
	if registry.KindOf(obj).Namespaced && (w.namespace != "" || w.dryRun != dryRunClient) {
		obj.SetNamespace(w.requestNamespace())
	}
	return manifest{object: obj}
}

func createObject(ctx context.Context, c *client.Client, m manifest) (registry.Object, string, error) {
	out, err := c.Create(ctx, m.object)
	return out, "created", err
}
