package cli

import (
	"cmp"
	"context"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"usher/internal/agent"
	"usher/internal/client"
	"usher/internal/netenv"
	"usher/registry"
)

func newRunCommand(g *globals) *cobra.Command {
	var labels string
	var ports []string
	var replicas int
	var readiness readinessFlags
	var links bool
	cmd := &cobra.Command{
		Use:   "run NAME [flags] -- COMMAND [ARG...]",
		Short: "Run local processes as Pods",
		Long: `Run a command as one or more Pods, NAME-0, NAME-1 and so on, for as long as it
runs. Each process has an address of its own, so that all of them can listen on
the same port, and finds it in its environment:

  HOST, POD_IP       the address to listen on
  PORT, PORT_<NAME>  the first port, and each port that has a name
  POD_NAME           the name of its Pod, and POD_NAMESPACE
  <SERVICE>_...      the Services of the namespace, as Kubernetes sets them

A Pod is ready while its process accepts connections on its TCP ports; another
program that has such a port on every address does not count. With --readiness-*
it is ready by a readinessProbe, as in Kubernetes: its failures are Events of the
Pod, and while a process starts it is asked every 100 ms (a command every second).

When a process is to stop, by Ctrl-C or because its Pod is deleted, its Pod turns terminating
first, then the process gets SIGTERM, and SIGKILL after 30 s. A second Ctrl-C
kills at once. The exit code is the first one that is not 0.`,
		Example: `  usher run web -p 8080 -- ./web
  usher run payment -n finance -l app=payment -p http=8080 --replicas 3 -- ./payment
  usher run web -p 8080 --readiness-http /healthz -- ./web
  usher run db -p 5432 --readiness-exec 'pg_isready -h $HOST' -- ./db
  usher run dns -p 53/udp -p 53/tcp -- ./dnsd`,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash != 1 || len(args) < 2 {
				return usagef("want a name and a command: usher run NAME [flags] -- COMMAND [ARG...]")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			w := agent.Workload{
				Name: args[0], Namespace: g.key(registry.Pods, "").Namespace, Replicas: replicas, Command: args[1:], NoServiceLinks: !links,
			}
			var err error
			if w.Labels, err = parseLabels(labels); err != nil {
				return usageError{err}
			}
			for _, s := range ports {
				port, err := agent.ParsePort(s)
				if err != nil {
					return usageError{err}
				}
				w.Ports = append(w.Ports, port)
			}
			if w.Readiness, err = readiness.read(w.Ports); err != nil {
				return err
			}
			if err := w.Validate(); err != nil {
				return usageError{err}
			}
			return g.run(cmd.Context(), w)
		},
	}
	cmd.Flags().StringVarP(&labels, "labels", "l", "", "labels of the Pods, KEY=VALUE,... (default app=NAME)")
	cmd.Flags().StringArrayVarP(&ports, "port", "p", nil, "a port that the process listens on, [NAME=]PORT[/udp]; may be repeated")
	readiness.add(cmd)
	cmd.Flags().IntVar(&replicas, "replicas", 1, "how many processes to run")
	addLinksFlag(cmd, &links)
	return cmd
}

// addLinksFlag adds the flag for the variables of Services.
func addLinksFlag(cmd *cobra.Command, links *bool) {
	cmd.Flags().BoolVar(links, "enable-service-links", true, "set the variables of the namespace's Services")
}

// run runs w on the daemon's node.
func (g *globals) run(ctx context.Context, w agent.Workload) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	defer c.Close()
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if err := reachable(ctx, cmp.Or(g.server, g.env.Getenv("USHER_SERVER")), status); err != nil {
		return err
	}
	services, err := serviceVariables(ctx, c, w.Namespace, !w.NoServiceLinks)
	if err != nil {
		return err
	}
	// A terminal that closes asks to end too, unless nohup says otherwise.
	if !signal.Ignored(syscall.SIGHUP) {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
		defer stop()
	}
	kill, stop := secondSignal()
	defer stop()
	a := &agent.Agent{
		API: c, NodeName: status.NodeName,
		Stdout: g.env.Stdout, Stderr: g.env.Stderr, Prefix: w.Replicas > 1 || isTerminal(g.env.Stdout),
		Environ: slices.Concat(services, os.Environ()),
		Kill:    kill, Watchdog: watchdogCommand(),
	}
	code, err := a.Run(ctx, w)
	if err == nil && code != 0 {
		err = exitCode(code)
	}
	return err
}

// parseLabels reads KEY=VALUE,... It returns nil when there is nothing.
func parseLabels(s string) (map[string]string, error) {
	if s == "" {
		return nil, nil
	}
	labels := make(map[string]string)
	for pair := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, usagef("invalid label %q: want KEY=VALUE", pair)
		}
		labels[key] = value
	}
	return labels, nil
}

// serviceVariables returns the environment variables that tell programs in a
// namespace of the Services.
func serviceVariables(ctx context.Context, c *client.Client, namespace string, links bool) ([]string, error) {
	list, err := c.List(ctx, registry.Services, "", client.ListOptions{})
	if err != nil {
		return nil, err
	}
	var services []*corev1.Service
	for _, obj := range list.Items {
		services = append(services, obj.(*corev1.Service))
	}
	return netenv.ServiceEnv(services, namespace, links), nil
}

// secondSignal returns a channel that is closed at the second signal to end.
// The first one ends the context of the command. SIGHUP may be the first, and
// only that: the end of a terminal can come as more than one.
func secondSignal() (second <-chan struct{}, stop func()) {
	signals := make(chan os.Signal, 8) // room for those that come at once
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	closed, done := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for first := true; ; {
			select {
			case sig := <-signals:
				if !first && sig != syscall.SIGHUP {
					close(closed)
					return
				}
				first = false
			case <-done:
				return
			}
		}
	})
	return closed, func() {
		signal.Stop(signals)
		close(done)
		wg.Wait()
	}
}

// isTerminal reports whether w is a terminal, or at least a device.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
