package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
	apiversion "k8s.io/apimachinery/pkg/version"
)

// versions are those of both sides, in the form of kubectl's.
type versions struct {
	Client apiversion.Info  `json:"clientVersion"`
	Server *apiversion.Info `json:"serverVersion,omitempty"`
}

func newVersionCommand(g *globals) *cobra.Command {
	var output string
	var clientOnly bool
	cmd := &cobra.Command{
		Use: "version", Short: "Show the version of this program and of the daemon", Args: noArgs,
		Example: "  usher version\n  usher version --client\n  usher version -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "json", "yaml"); err != nil {
				return err
			}
			v := versions{Client: apiversion.Info{
				GitVersion: version, GoVersion: runtime.Version(), Compiler: runtime.Compiler,
				Platform: runtime.GOOS + "/" + runtime.GOARCH,
			}}
			var err error
			if !clientOnly {
				v.Server, err = g.serverVersion(cmd.Context())
			}
			return errors.Join(g.printVersions(v, output), err)
		},
	}
	addOutputFlag(cmd, &output, "json", "yaml")
	cmd.Flags().BoolVar(&clientOnly, "client", false, "this program's version only")
	return cmd
}

func (g *globals) printVersions(v versions, output string) error {
	if output != "" {
		return printValue(g.env.Stdout, output, v)
	}
	text := "Client Version: " + printable(v.Client.GitVersion) + "\n"
	if v.Server != nil {
		text += "Server Version: " + printable(v.Server.GitVersion) + "\n"
	}
	_, err := fmt.Fprint(g.env.Stdout, text)
	return err
}

// serverVersion asks the daemon.
func (g *globals) serverVersion(ctx context.Context) (*apiversion.Info, error) {
	c, err := g.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Version(ctx)
}
