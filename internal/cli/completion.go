package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"usher/internal/client"
	"usher/registry"
)

func newCompletionCommand() *cobra.Command {
	shells := map[string]func(root *cobra.Command) error{
		"bash":       func(root *cobra.Command) error { return root.GenBashCompletionV2(root.OutOrStdout(), true) },
		"zsh":        func(root *cobra.Command) error { return root.GenZshCompletion(root.OutOrStdout()) },
		"fish":       func(root *cobra.Command) error { return root.GenFishCompletion(root.OutOrStdout(), true) },
		"powershell": func(root *cobra.Command) error { return root.GenPowerShellCompletionWithDesc(root.OutOrStdout()) },
	}
	names := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the script that makes a shell complete commands",
		Long: `Print the script that makes a shell complete commands, types and names. SHELL is
bash, zsh, fish or powershell.`,
		Example: `  source <(usher completion bash)
  usher completion zsh > "${fpath[1]}/_usher"
  usher completion fish | source`,
		ValidArgs: names,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || shells[args[0]] == nil {
				return usagef("want one shell: %s", strings.Join(names, ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return shells[args[0]](cmd.Root()) },
	}
}

// complete says what completes the value of a flag.
func complete(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic("cli: " + err.Error())
	}
}

// completeObjects completes TYPE NAME… and TYPE/NAME.
func (g *globals) completeObjects(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	kind, _, slashed := strings.Cut(prefix, "/")
	switch {
	case slashed:
		return g.completeNames(cmd.Context(), kind, kind+"/", nil), cobra.ShellCompDirectiveNoFileComp
	case len(args) == 0:
		types := typeNames()
		if cmd.Name() == "get" {
			types = append(types, connectionNames[0])
		}
		return types, cobra.ShellCompDirectiveNoFileComp
	case strings.Contains(args[0], "/"):
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return g.completeNames(cmd.Context(), args[0], "", args[1:]), cobra.ShellCompDirectiveNoFileComp
}

// typeNames returns the types that there are.
func typeNames() []cobra.Completion {
	var types []cobra.Completion
	for _, k := range registry.Kinds {
		types = append(types, k.Resource)
	}
	return types
}

func (g *globals) completeNamespace(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return g.completeNames(cmd.Context(), "namespaces", "", nil), cobra.ShellCompDirectiveNoFileComp
}

func (g *globals) completePods(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return g.completeNames(cmd.Context(), "pods", "", nil), cobra.ShellCompDirectiveNoFileComp
}

// completeNames returns the names of the objects of a type, but for those that
// are there already. It says nothing about errors: a shell is no place for it.
func (g *globals) completeNames(ctx context.Context, kind, before string, given []string) []cobra.Completion {
	k, err := kindNamed(kind)
	if err != nil {
		return nil
	}
	c, err := g.client()
	if err != nil {
		return nil
	}
	defer c.Close()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	list, err := c.List(ctx, k, g.key(k, "").Namespace, client.ListOptions{})
	if err != nil {
		return nil
	}
	var names []cobra.Completion
	for _, obj := range list.Items {
		if !slices.Contains(given, obj.GetName()) {
			names = append(names, before+obj.GetName())
		}
	}
	return names
}
