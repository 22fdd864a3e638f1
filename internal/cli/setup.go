package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"usher/internal/api"
	"usher/internal/client"
	"usher/internal/config"
	"usher/internal/setup"
	"usher/internal/vip"
)

// setupTasks are what setup can be asked for.
var setupTasks = []cobra.Completion{"ports", "route", "dns"}

func newSetupCommand(g *globals) *cobra.Command {
	var dryRun, blackhole bool
	var file string
	cmd := &cobra.Command{
		Use:       "setup {ports|route|dns}...",
		Short:     "Change this machine so that usher works for every program, and can be undone",
		ValidArgs: setupTasks,
		Long: `Change this machine, as root. Nothing of it is needed for usher exec; usher doctor
says what is missed without it.

  ports  everybody may open ports from 53 on, so that Services are at their own ports
         on loopback, as 127.96.x.y:80
  route  the ClusterIPs are the machine's own: the daemon of an ordinary user has the
         anyip view. With --blackhole they lead nowhere instead: a program that is not
         under usher exec reaches nobody by them. Until the machine starts anew.
  dns    names of the cluster domain are asked of usher's nameserver, all others where
         they were: systemd-resolved of systemd 258 or later, and macOS. The daemon has
         to run, and a name that it knows has to resolve afterwards.

The ranges and the domain are those of the daemon, or of the configuration where none
runs. All is done or nothing: what fails takes back what was done before it. What was
there is kept in a journal in /var/lib/usher, and usher teardown brings it back.`,
		Example: `  sudo usher setup ports
  usher setup route dns --dry-run
  sudo usher setup route --blackhole`,
		Args: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if !slices.Contains(setupTasks, arg) {
					return usagef("unknown change %q: want some of %s", arg, strings.Join(setupTasks, ", "))
				}
			}
			if len(args) == 0 {
				return usagef("say what to change: some of %s", strings.Join(setupTasks, ", "))
			}
			if blackhole && !slices.Contains(args, "route") {
				return usagef("--blackhole is for route")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.setUp(cmd.Context(), file, args, blackhole, dryRun)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the commands that would do it")
	cmd.Flags().BoolVar(&blackhole, "blackhole", false, "with route: the ClusterIPs lead nowhere")
	cmd.Flags().StringVar(&file, "config", "", "configuration file of the daemon")
	return cmd
}

// setUp carries out what is asked for.
func (g *globals) setUp(ctx context.Context, file string, args []string, blackhole, dryRun bool) error {
	if err := needRoot(os.Geteuid(), dryRun, g.setupWords(file, args, blackhole)); err != nil {
		return err
	}
	tasks, err := g.setupTasks(ctx, file, args, blackhole)
	if err != nil {
		return err
	}
	if err := g.machine(dryRun).Setup(ctx, tasks); err != nil || dryRun {
		return err
	}
	if slices.Contains(args, "ports") || slices.Contains(args, "route") && !blackhole {
		fmt.Fprintln(g.env.Stdout, "# a daemon that runs already has to be started again")
	}
	_, err = fmt.Fprintln(g.env.Stdout, "# to undo it: usher teardown")
	return err
}

// setupWords returns the command that does the same as root, who would ask a
// daemon of root's and read root's configuration.
func (g *globals) setupWords(file string, args []string, blackhole bool) []string {
	words := append([]string{"setup"}, args...)
	if blackhole {
		words = append(words, "--blackhole")
	}
	if file = cmp.Or(file, config.DefaultFile(g.env.Getenv)); file != "" {
		words = append(words, "--config", file)
	}
	if !slices.Equal(args, []string{"ports"}) {
		words = append(words, "--server", g.address())
	}
	return words
}

func newTeardownCommand(g *globals) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "teardown",
		Short: "Undo what usher setup has changed",
		Long: `Undo what usher setup has changed on this machine, the last change first. What
somebody has changed since stays as it is, and is named.`,
		Example: "  sudo usher teardown\n  sudo usher teardown --dry-run",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needRoot(os.Geteuid(), dryRun, []string{"teardown"}); err != nil {
				return err
			}
			return g.machine(dryRun).Teardown(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the commands that would do it")
	return cmd
}

// needRoot returns an error, with the command to run, for everybody else.
func needRoot(uid int, dryRun bool, words []string) error {
	if uid == 0 || dryRun {
		return nil
	}
	path, err := os.Executable() // sudo has a PATH of its own
	if err != nil {
		path = "usher"
	}
	command := strings.Join(words, " ")
	return fmt.Errorf("usher %s changes the whole machine, which only root may\n  as root:             sudo %s %s\n  to see the commands: usher %s --dry-run",
		words[0], path, command, command)
}

// machine returns this machine.
func (g *globals) machine(dryRun bool) *setup.Machine {
	return &setup.Machine{
		OS: runtime.GOOS, StateDir: g.setupDir(), DryRun: dryRun, Out: g.env.Stdout,
		Run: func(ctx context.Context, command []string) (string, error) {
			out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
			return string(out), err
		},
		Lookup: func(ctx context.Context, name string) ([]netip.Addr, error) {
			return new(net.Resolver).LookupNetIP(ctx, "ip4", name+".")
		},
	}
}

// setupDir is where setup keeps its journal. There is one for the machine,
// wherever daemons have their state; USHER_SETUPDIR is for tests.
func (g *globals) setupDir() string {
	return cmp.Or(g.env.Getenv("USHER_SETUPDIR"), "/var/lib/usher")
}

// setupTasks returns what is asked for, in an order in which one can use what
// the one before has done.
func (g *globals) setupTasks(ctx context.Context, file string, args []string, blackhole bool) ([]setup.Task, error) {
	status, askErr := g.runningDaemon(ctx)
	var tasks []setup.Task
	for _, name := range setupTasks {
		if !slices.Contains(args, name) {
			continue
		}
		switch name {
		case "ports":
			tasks = append(tasks, setup.Ports())
		case "route":
			ranges, err := g.serviceRanges(status, askErr, file)
			if err != nil {
				return nil, err
			}
			tasks = append(tasks, setup.Route(ranges, blackhole))
		case "dns":
			if status == nil {
				return nil, fmt.Errorf("the names of Services are known to the daemon alone: %w", askErr)
			}
			names, err := namesOf(status)
			if err != nil {
				return nil, err
			}
			tasks = append(tasks, setup.DNS(names))
		}
	}
	return tasks, nil
}

// runningDaemon asks the daemon about itself, if there is one.
func (g *globals) runningDaemon(ctx context.Context) (*api.Status, error) {
	c, err := g.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Status(ctx)
}

// serviceRanges returns the ranges of ClusterIPs: those of the daemon, or of
// its configuration if none runs. One that does not say is an error.
func (g *globals) serviceRanges(status *api.Status, askErr error, file string) ([]netip.Prefix, error) {
	switch {
	case askErr == nil:
		return prefixesOf(status)
	case !errors.Is(askErr, client.ErrNotRunning):
		return nil, askErr
	}
	c, err := g.configuration(file)
	if err != nil {
		return nil, err
	}
	return c.ServiceCIDRs, nil
}

// configuration reads the configuration that a daemon of this user would have.
func (g *globals) configuration(file string) (*config.Config, error) {
	if file == "" {
		file = config.DefaultFile(g.env.Getenv)
	}
	return config.Load(config.Sources{Defaults: g.env.Defaults, File: file, Getenv: g.env.Getenv})
}

// prefixesOf returns the ranges of ClusterIPs of a daemon.
func prefixesOf(status *api.Status) ([]netip.Prefix, error) {
	var ranges []netip.Prefix
	for _, text := range status.ServiceCIDR {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("read the service range of the daemon: %w", err)
		}
		ranges = append(ranges, prefix)
	}
	return ranges, nil
}

// viewsOf returns those Views of a daemon that are wanted.
func viewsOf(status *api.Status, ranges []netip.Prefix, want func(api.ViewStatus) bool) ([]*vip.View, error) {
	var views []*vip.View
	for _, v := range status.Views {
		if !want(v) {
			continue
		}
		view, err := vip.Described(ranges, v.CIDR, v.FirstPort)
		if err != nil {
			return nil, err
		}
		views = append(views, view)
	}
	return views, nil
}

// namesOf returns who knows the names of a daemon's Services: the nameserver of
// the first View that is visible here.
func namesOf(status *api.Status) (setup.Names, error) {
	names := setup.Names{Domain: status.ClusterDomain, Canary: "kubernetes.default.svc." + status.ClusterDomain}
	if msgs := validation.IsDNS1123Subdomain(names.Domain); len(msgs) > 0 { // it becomes part of a path, for root
		return names, fmt.Errorf("the cluster domain %q of the daemon: %s", names.Domain, msgs[0])
	}
	ranges, err := prefixesOf(status)
	if err != nil {
		return names, err
	}
	for _, v := range status.Views {
		nameserver, err := netip.ParseAddrPort(v.Nameserver)
		if err != nil || v.NetNS != networkNamespace() { // not open, or elsewhere
			continue
		}
		view, err := vip.Described(ranges, v.CIDR, v.FirstPort)
		if err != nil {
			return names, err
		}
		if addr, ok := view.Address(ranges[0].Addr().Next()); ok && addr.Is4() {
			names.Nameserver, names.Address = nameserver, addr
			return names, nil
		}
	}
	return names, errors.New("the daemon has no nameserver open here\n  see: usher status")
}
