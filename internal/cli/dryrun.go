package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"usher/internal/client"
	"usher/registry"
)

// A dryRun is the value of --dry-run: who pretends.
type dryRun string

const (
	dryRunNone   dryRun = "none"
	dryRunServer dryRun = "server" // everything but the write
	dryRunClient dryRun = "client" // nothing is sent
)

var dryRuns = []string{string(dryRunNone), string(dryRunServer), string(dryRunClient)}

// addFlag gives cmd the flag --dry-run.
func (d *dryRun) addFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar((*string)(d), "dry-run", string(dryRunNone),
		"server: everything but the write; client: say what would be sent")
	complete(cmd, "dry-run", cobra.FixedCompletions(dryRuns, cobra.ShellCompDirectiveNoFileComp))
}

// check checks the value of the flag.
func (d dryRun) check() error {
	if !slices.Contains(dryRuns, string(d)) {
		return usagef(`invalid dry-run value (%s). Must be "none", "server", or "client"`, string(d))
	}
	return nil
}

// suffix ends what is said of an object, in kubectl's words.
func (d dryRun) suffix() string {
	switch d {
	case dryRunServer:
		return " (server dry run)"
	case dryRunClient:
		return " (dry run)"
	}
	return ""
}

// pretend returns an object as it would be sent, and what send would do to it: for
// that it is enough to know whether it exists.
func (w *writeCommand) pretend(ctx context.Context, c *client.Client, m manifest) (registry.Object, string, error) {
	if w.verb != "applying" {
		return m.object, w.done, nil
	}
	_, err := c.Get(ctx, registry.KeyOf(m.object))
	if apierrors.IsNotFound(err) {
		return m.object, "created", nil
	}
	return m.object, "configured", err
}
