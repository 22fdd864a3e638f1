package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/client"
	"usher/internal/up"
)

func newUpCommand(g *globals) *cobra.Command {
	u := &upCommand{globals: g}
	cmd := &cobra.Command{
		Use:   "up [FILE|DIR]",
		Short: "Run a project: its manifests and its processes",
		Long: `Apply the manifests of a project and run its processes as Pods, each started
again when it ends, until Ctrl-C. A project is a Procfile, or usher.yaml, in a
directory, by default the working directory. A Procfile has lines

  web: ./web --verbose

and usher.yaml says more:

  namespace: shop
  manifests: [manifests/*.yaml]     # the default
  processes:
  - name: web
    command: ./web --verbose        # for a shell; or a list: [./web, --verbose]
    ports: [http=8080]              # as of usher run; or a number
    labels: {app: web}              # the default: app and the name
    replicas: 2                     # the rest may be left out, too
    env: {LEVEL: debug}
    dir: web
    readinessProbe: {httpGet: {path: /healthz, port: http}}
    restartPolicy: OnFailure        # by default Always

Where both are there, usher.yaml need only say what a Procfile cannot: a process
without a command is the one of that name in the Procfile, and what else is in
that is run, too. What the processes find in their environment, and how they end,
is as with usher run.

When a file changes, what is different in it is done: a process that has changed
is stopped and started, an object that is not there any more is deleted. A file
that is wrong is reported and changes nothing.

When no daemon runs, up starts one, which other terminals find as usual, and ends
it at its own end. At the first Ctrl-C the processes stop, the last one first; a
second one kills them. The objects stay, unless --rm says otherwise.`,
		Example: `  usher up
  usher up examples/shop
  usher up --scale web=3,worker=0   # as many of each, or none
  usher up -f service.yaml ./Procfile
  usher up --abort-on-exit          # for tests: the exit code is a process's`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("want one file or directory, got %q", args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"."}
			}
			return u.run(cmd.Context(), args[0])
		},
	}
	cmd.Flags().StringArrayVarP(&u.extra, "filename", "f", nil, "more manifests: a file or a pattern; may be repeated")
	cmd.Flags().StringToIntVar(&u.scale, "scale", nil, "how many of a process there are, NAME=REPLICAS,...; may be repeated")
	cmd.Flags().BoolVar(&u.abort, "abort-on-exit", false, "end as the first process that ends; without a restartPolicy none is restarted")
	cmd.Flags().BoolVar(&u.remove, "rm", false, "delete the objects that up has created, at the end")
	return cmd
}

// An upCommand runs a project.
type upCommand struct {
	*globals
	extra         []string
	scale         map[string]int
	abort, remove bool

	client   *client.Client
	objects  upObjects
	prefixes *prefixes
	kill     <-chan struct{}
	networks upNetworks
	output   [2]io.Writer // stdout and stderr, which all processes share
}

// say tells what up itself does.
func (u *upCommand) say(format string, a ...any) {
	fmt.Fprintf(u.output[1], "usher: "+format+"\n", a...)
}

// run runs the project at path until ctx is done.
func (u *upCommand) run(ctx context.Context, path string) error {
	u.output = [2]io.Writer{shared(u.env.Stdout), shared(u.env.Stderr)}
	file, err := up.Find(path)
	if err != nil {
		return err
	}
	if _, err := u.load(file); err != nil { // before anything is started
		return err
	}
	ctx, stop := hangUpEnds(ctx)
	defer stop()
	var stopped func()
	u.kill, stopped = secondSignal()
	defer stopped()
	daemon, err := u.ensureDaemon(ctx)
	if err != nil {
		return err
	}
	defer daemon.end()
	if u.client, err = u.globals.client(); err != nil {
		return err
	}
	defer u.client.Close()
	watcher, err := up.NewWatcher()
	if err != nil {
		return err
	}
	watching, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { watcher.Run(watching) })
	defer wg.Wait()
	defer unwatch()
	u.prefixes = newPrefixes(u.env)
	defer u.networks.leave()
	if u.remove {
		defer u.objects.removeCreated(context.WithoutCancel(ctx), u)
	}
	code, err := (&up.Up{
		Load:   func() (*up.Project, error) { return u.load(file) },
		Apply:  u.apply,
		Run:    u.runProcess,
		Say:    u.say,
		Follow: watcher.Follow, Changes: watcher.Changes, AbortOnExit: u.abort,
	}).Keep(ctx)
	if err == nil && code != 0 {
		err = exitCode(code)
	}
	return err
}

// load reads the project, and what the flags say beside it.
func (u *upCommand) load(file string) (*up.Project, error) {
	p, err := up.Load(file, u.namespace, u.requestNamespace(), u.abort)
	if err != nil {
		return nil, err
	}
	if err := p.Scale(u.scale); err != nil {
		return nil, usageError{err}
	}
	for _, extra := range u.extra {
		if _, err := filepath.Match(extra, ""); err != nil {
			return nil, usagef("invalid -f %q: %v", extra, err)
		}
		dir, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		pattern := up.Pattern(dir, extra)
		if found, _ := filepath.Glob(pattern); len(found) == 0 {
			return nil, fmt.Errorf("the path %q does not exist", extra)
		}
		p.Manifests = append(p.Manifests, pattern)
	}
	return p, nil
}

// runProcess runs one kind of process.
func (u *upCommand) runProcess(ctx context.Context, p up.Process) (int, error) {
	u.prefixes.widen(p.Name, p.Replicas)
	c, err := u.globals.client()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	a, status, err := u.newAgent(ctx, c, u.prefixes)
	if err != nil {
		return 0, err
	}
	services, err := serviceVariables(ctx, c, p.Namespace, true)
	if err != nil {
		return 0, err
	}
	a.Stdout, a.Stderr, a.Prefix, a.Kill = u.output[0], u.output[1], true, u.kill
	a.Environ = slices.Concat(services, os.Environ(), p.Env)
	if err := u.networks.enter(u, a, status, p.Namespace); err != nil {
		return 0, err
	}
	return a.Run(ctx, p.Workload)
}

// sharedWriter lets several agents write whole lines to one writer.
type sharedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func shared(w io.Writer) io.Writer { return &sharedWriter{w: w} }

func (s *sharedWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

// inNamespace returns g for objects that are in namespace when they do not say.
func (g *globals) inNamespace(namespace string) *globals {
	env := g.env
	env.Getenv = func(name string) string {
		if name == "USHER_NAMESPACE" {
			return cmp.Or(namespace, g.env.Getenv(name), metav1.NamespaceDefault)
		}
		return g.env.Getenv(name)
	}
	return &globals{env: env, server: g.server, tokenFlag: g.tokenFlag, authority: g.authority, namespace: g.namespace}
}
