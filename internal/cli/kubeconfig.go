package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"usher/internal/api"
	"usher/internal/daemon"
	"usher/internal/kubeconfig"
	"usher/internal/pki"
)

func newKubeconfigCommand(g *globals) *cobra.Command {
	var role string
	var merge, use bool
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print what kubectl has to know of the daemon, or merge it into its configuration",
		Long: `Print a kubeconfig for the daemon of this machine: its address, its
certification authority, and the token of a role. With --merge it is put into
$KUBECONFIG or ~/.kube/config, as the context "usher"; everything else in there
stays. The token of the role "view" can only get, list and watch; its context is
"usher-view".`,
		Example: `  usher kubeconfig --merge && kubectl get svc
  usher kubeconfig --merge --use
  usher kubeconfig --role view > kubeconfig`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if role != string(api.RoleAdmin) && role != string(api.RoleView) {
				return usagef("role %q, want admin or view", role)
			}
			if use && !merge {
				return usagef("--use is for --merge: what is printed has one context")
			}
			e, err := g.kubeconfigEntry(cmd.Context(), api.Role(role))
			if err != nil {
				return err
			}
			if merge {
				return g.mergeKubeconfig(e, use)
			}
			data, err := kubeconfig.Merge(nil, e, true)
			if err != nil {
				return err
			}
			_, err = g.env.Stdout.Write(data)
			return err
		},
	}
	cmd.Flags().StringVar(&role, "role", string(api.RoleAdmin), "what the token is good for: admin or view")
	cmd.Flags().BoolVar(&merge, "merge", false, "put it into the file that kubectl reads")
	cmd.Flags().BoolVar(&use, "use", false, "with --merge: make it the current context, even if there is one")
	complete(cmd, "role", cobra.FixedCompletions([]cobra.Completion{"admin", "view"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// kubeconfigEntry asks the daemon where it is, and reads its files.
func (g *globals) kubeconfigEntry(ctx context.Context, role api.Role) (kubeconfig.Entry, error) {
	e := kubeconfig.Entry{Name: "usher", Cluster: "usher"}
	if role != api.RoleAdmin {
		e.Name += "-" + string(role)
	}
	if server := g.address(); !isHere(server) {
		return e, fmt.Errorf("%s is not on this machine, and its token not at hand: run usher kubeconfig there", server)
	}
	c, err := g.client()
	if err != nil {
		return e, err
	}
	defer c.Close()
	status, err := c.Status(ctx)
	if err != nil {
		return e, err
	}
	if e.Server = httpsAddress(status.API); e.Server == "" {
		return e, errors.New("the daemon has no control port: set api.listen")
	}
	if e.CA, err = os.ReadFile(filepath.Join(status.DataDir, pki.CertFile)); err != nil {
		return e, fmt.Errorf("read the daemon's certification authority: %w", err)
	}
	token, err := os.ReadFile(filepath.Join(status.DataDir, daemon.TokenFile(role)))
	if err != nil {
		return e, fmt.Errorf("read the daemon's token: %w", err)
	}
	e.Token = strings.TrimSpace(string(token))
	return e, nil
}

// httpsAddress returns the one out of a daemon's addresses that kubectl can
// use: "" if there is none. Where the daemon listens on all addresses it is the
// one that leads to this machine.
func httpsAddress(addresses []string) string {
	for _, address := range addresses {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" {
			continue
		}
		if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
			u.Host = net.JoinHostPort("127.0.0.1", u.Port())
		}
		return u.String()
	}
	return ""
}

// mergeKubeconfig puts e where kubectl finds it, and says so.
func (g *globals) mergeKubeconfig(e kubeconfig.Entry, use bool) error {
	result, err := kubeconfig.MergeInto(kubeconfig.Files(g.env.Getenv), e, use)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("context %q written to %s\n", e.Name, result.File)
	if result.Current == e.Name {
		text += fmt.Sprintf("current context: %s\n", result.Current)
	} else {
		text += fmt.Sprintf("current context: %s, as before\n  to use this one: kubectl --context %s, or add --use\n", result.Current, e.Name)
	}
	_, err = fmt.Fprint(g.env.Stdout, text)
	return err
}
