package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"usher/internal/agent"
	"usher/internal/api"
	"usher/internal/client"
	"usher/internal/netenv"
	"usher/internal/podlog"
	"usher/registry"
)

// runFlags say how run runs a command.
type runFlags struct {
	labels    string
	ports     []string
	replicas  int
	readiness readinessFlags
	links     bool
	network   string
	restart   string
}

func newRunCommand(g *globals) *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "run NAME [flags] -- COMMAND [ARG...]",
		Short: "Run local processes as Pods",
		Long: `Run a command as one or more Pods, NAME-0, NAME-1 and so on, for as long as it
runs. Each process has an address of its own, so that all of them can listen on
the same port, and finds it in its environment:

  HOST, POD_IP       its address
  PORT, PORT_<NAME>  the first port, and each port that has a name
  POD_NAME           the name of its Pod, and POD_NAMESPACE
  <SERVICE>_...      the Services of the namespace, as Kubernetes sets them

With --net pod it need not look there: what it wants to listen on at every address,
or at localhost, it listens on at its own, and where that is, usher learns from the
kernel. A port under 1024 that it may not have is moved by 8000, which Services know
of. What it calls localhost are its own ports first; Services it reaches by name, as
under usher exec --mode direct, with the same limits. --net host leaves the process
alone; --net auto, the default, is pod where that works, and says why where not.

A Pod is ready while its process accepts connections on its TCP ports (those of -p, or
else all that it listens on; if there are none after 10 s it counts as ready); another
program that has such a port on every address does not count. With --readiness-*
it is ready by a readinessProbe, as in Kubernetes: its failures are Events of the
Pod, and while a process starts it is asked every 100 ms (a command every second).

With --restart a process that ended by itself is started again in the same Pod,
with its name and address: the first time at once, then after 0.5 s, 1 s and so on
up to 30 s, and anew when it has run for a minute. "usher get pods" counts that.

When a process is to stop, by Ctrl-C or because its Pod is deleted, its Pod turns terminating
first, then the process gets SIGTERM, and SIGKILL after 30 s. A second Ctrl-C
kills at once. The exit code is the first one that is not 0; of processes that
were started again only the last one counts.`,
		Example: `  usher run web -p 8080 -- ./web
  usher run payment -n finance -l app=payment -p http=8080 --replicas 3 -- ./payment
  usher run web -p 8080 --readiness-http /healthz -- ./web
  usher run db -p 5432 --readiness-exec 'pg_isready -h $HOST' -- ./db
  usher run worker --restart on-failure -- ./worker
  usher run dns -p 53/udp -p 53/tcp -- ./dnsd`,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash != 1 || len(args) < 2 {
				return usagef("want a name and a command: usher run NAME [flags] -- COMMAND [ARG...]")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := flags.workload(args[0], g.requestNamespace(), args[1:])
			if err != nil {
				return err
			}
			return g.run(cmd.Context(), w, flags.network)
		},
	}
	flags.add(cmd)
	return cmd
}

func (r *runFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&r.labels, "labels", "l", "", "labels of the Pods, KEY=VALUE,... (default app=NAME)")
	f.StringArrayVarP(&r.ports, "port", "p", nil, "a port that the process listens on, [NAME=]PORT[/udp]; may be repeated")
	r.readiness.add(cmd)
	f.IntVar(&r.replicas, "replicas", 1, "how many processes to run")
	f.StringVar(&r.network, "net", netAuto, "what the processes see of the network: auto, pod or host")
	f.StringVar(&r.restart, "restart", "Never", "start processes again that end: Never, OnFailure or Always")
	addLinksFlag(cmd, &r.links)
}

// workload returns what is to be run, or what is wrong with the flags.
func (r *runFlags) workload(name, namespace string, command []string) (agent.Workload, error) {
	w := agent.Workload{Name: name, Namespace: namespace, Replicas: r.replicas, Command: command, NoServiceLinks: !r.links}
	var err error
	if w.Labels, err = parseLabels(r.labels); err != nil {
		return w, err
	}
	for _, s := range r.ports {
		port, err := agent.ParsePort(s)
		if err != nil {
			return w, usageError{err}
		}
		w.Ports = append(w.Ports, port)
	}
	if w.Readiness, err = r.readiness.read(w.Ports); err != nil {
		return w, err
	}
	if w.Restart, err = parseRestart(r.restart); err != nil {
		return w, err
	}
	if err := w.Validate(); err != nil {
		return w, usageError{err}
	}
	if !slices.Contains(networks, r.network) {
		return w, usagef("unknown network %q: want one of %s", r.network, strings.Join(networks, ", "))
	}
	return w, nil
}

// parseRestart reads a restartPolicy, in Kubernetes' words or in those that
// command lines have for them.
func parseRestart(s string) (corev1.RestartPolicy, error) {
	policies := []corev1.RestartPolicy{corev1.RestartPolicyNever, corev1.RestartPolicyOnFailure, corev1.RestartPolicyAlways}
	for _, p := range policies {
		if strings.EqualFold(strings.ReplaceAll(s, "-", ""), string(p)) {
			return p, nil
		}
	}
	return "", usagef("invalid --restart %q: want one of Never, OnFailure, Always", s)
}

// addLinksFlag adds the flag for the variables of Services.
func addLinksFlag(cmd *cobra.Command, links *bool) {
	cmd.Flags().BoolVar(links, "enable-service-links", true, "set the variables of the namespace's Services")
}

// run runs w on the daemon's node.
func (g *globals) run(ctx context.Context, w agent.Workload, network string) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	defer c.Close()
	prefixes := newPrefixes(g.env)
	prefixes.widen(w.Name, w.Replicas)
	a, status, err := g.newAgent(ctx, c, prefixes)
	if err != nil {
		return err
	}
	services, err := serviceVariables(ctx, c, w.Namespace, !w.NoServiceLinks)
	if err != nil {
		return err
	}
	ctx, stop := hangUpEnds(ctx)
	defer stop()
	kill, stop := secondSignal()
	defer stop()
	a.Prefix, a.Kill, a.Environ = w.Replicas > 1 || isTerminal(g.env.Stdout), kill, slices.Concat(services, os.Environ())
	leave, err := g.enterNetwork(a, c, status, w.Namespace, network)
	if err != nil {
		return err
	}
	defer leave()
	code, err := a.Run(ctx, w)
	if err == nil && code != 0 {
		err = exitCode(code)
	}
	return err
}

// newAgent returns an agent of the daemon behind c, if that could reach its
// processes, and what that daemon says of itself.
func (g *globals) newAgent(ctx context.Context, c *client.Client, prefixes *prefixes) (*agent.Agent, *api.Status, error) {
	c.Program = "usher-run" // what it sets, `usher apply` must not take away
	status, err := c.Status(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := reachable(ctx, g.address(), status); err != nil {
		return nil, nil, err
	}
	return &agent.Agent{
		API: c, NodeName: status.NodeName, Stdout: g.env.Stdout, Stderr: g.env.Stderr, PrefixOf: prefixes.of,
		Watchdog: watchdogCommand(), LogDir: logDir(status.DataDir),
	}, status, nil
}

// hangUpEnds returns a context that ends when the terminal closes, too, unless
// nohup says otherwise.
func hangUpEnds(ctx context.Context) (context.Context, context.CancelFunc) {
	if signal.Ignored(syscall.SIGHUP) {
		return context.WithCancel(ctx)
	}
	return signal.NotifyContext(ctx, syscall.SIGHUP)
}

// logDir returns the directory of logs of the daemon whose state is in dataDir,
// or "" if this user may not write to it: another user's daemon keeps no logs
// of what this one runs.
func logDir(dataDir string) string {
	dir := podlog.Dir(dataDir)
	if dataDir == "" || unix.Access(dir, unix.W_OK) != nil {
		return ""
	}
	return dir
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
	return variablesOf(list, namespace, links), nil
}

// variablesOf returns those of a list of Services.
func variablesOf(list *client.List, namespace string, links bool) []string {
	var services []*corev1.Service
	for _, obj := range list.Items {
		services = append(services, obj.(*corev1.Service))
	}
	return netenv.ServiceEnv(services, namespace, links)
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
