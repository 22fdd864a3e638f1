// Package cli is the command line: one file a command. Except for serve, run,
// up and exec the commands are clients of the API, and speak as kubectl does.
//
// Standard output is data, standard error is talk. The package does not know
// what the objects mean: it is the server that validates, allocates and makes
// tables of them.
package cli

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"usher/internal/netenv"
)

// version is set by the linker.
var version = "unknown"

// Env is what a command has of the outside world.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	Defaults       []byte // config.yaml
}

// Main runs the command line and returns the exit code.
func Main(ctx context.Context, env Env, args []string) int {
	if len(args) > 0 && args[0] == netenv.Stage2Command {
		return netenv.Stage2(args[1:])
	}
	root := newRoot(env)
	root.SetArgs(append([]string{}, args...)) // not nil: cobra would take os.Args
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	return report(env.Stderr, cmd, err)
}

func newRoot(env Env) *cobra.Command {
	g := &globals{env: env}
	root := &cobra.Command{
		Use:   "usher",
		Short: "ClusterIP Services without Kubernetes",
		Long: `Usher gives every Service a stable virtual IP and a stable DNS name, keeps
the live backends of each, and balances TCP and UDP over them.`,
		Example: `  usher serve                                     run the daemon
  usher apply -f service.yaml                     a plain Kubernetes Service
  usher run web -p 8080 --replicas 3 -- ./web     processes as its Pods
  usher up                                        all that a Procfile or usher.yaml says
  usher exec -- curl http://web/                  a program that sees VIPs and names`,
		SilenceUsage: true, SilenceErrors: true,
		SuggestionsMinimumDistance: 2,
		Args:                       knownCommand,
		RunE:                       func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	g.addFlags(root)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(newHelpCommand())
	root.AddCommand(
		newServeCommand(env), newEtcdCommand(env), newWatchdogCommand(env),
		newApplyCommand(g), newCreateCommand(g), newReplaceCommand(g), newDeleteCommand(g),
		newGetCommand(g), newDescribeCommand(g), newExplainCommand(g), newRunCommand(g), newUpCommand(g), newExecCommand(g), newLogsCommand(g),
		newDiffCommand(g), newWaitCommand(g), newLabelCommand(g), newAnnotateCommand(g), newPatchCommand(g), newEditCommand(g),
		newExposeCommand(g), newAPIResourcesCommand(g), newAPIVersionsCommand(g),
		newStatusCommand(g), newDoctorCommand(g), newSetupCommand(g), newTeardownCommand(g), newKubeconfigCommand(g), newVersionCommand(g), newCompletionCommand(),
	)
	return root
}

// knownCommand refuses the name of a command that there is not, and says which
// one may be meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		hint = "\n  did you mean: " + strings.Join(similar, ", ")
	}
	return usagef("unknown command %q for %q%s", args[0], cmd.CommandPath(), hint)
}

// noArgs refuses arguments as a usage error.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no arguments, got %q", cmd.CommandPath(), args)
	}
	return nil
}

func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Show the help of a command",
		Example: "  usher help apply",
		Args:    func(cmd *cobra.Command, args []string) error { return nil },
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err != nil {
				return usageError{err}
			}
			if err := knownCommand(cmd.Root(), rest); err != nil {
				return err
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	}
}
