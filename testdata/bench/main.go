//go:build linux

// Bench measures usher beside its peers: HAProxy, nginx, a naive proxy made of
// io.Copy, and no proxy at all. All of them run at the same time, in a network
// namespace with nothing but lo, and take turns in every round, so that what
// else the machine does falls on all of them.
//
//	bench -usher bin/usher [-rounds 5] [-time 2s] [-peers LIST] [-modes LIST] [-o results.jsonl]
//	bench -exec -usher bin/usher [-rounds 5] [-time 2s] [-modes LIST]
//
// With -exec it measures programs under usher exec beside the same programs
// without it, through the proxy, and where the kernel translates.
//
// docs/performance.md says how to read what it prints. It starts itself again
// as its parts:
//
//	bench backend    the backends
//	bench naive      the naive proxy
//	bench load       a load that is a process of its own
//	bench world      a namespace in which the kernel translates
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	usher  string
	exec   bool // measure usher exec
	rounds int
	take   time.Duration
	peers  []string
	modes  []string
	output string
}

// Children end with the thread that started them, and load is made by a thread
// of its own: all of that is the first one.
func init() { runtime.LockOSThread() }

func main() {
	err := run(os.Args[1:])
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.Exited() {
		os.Exit(exit.ExitCode()) // the one in the namespace has said why
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "backend":
			return serveBackends()
		case "naive":
			return serveNaive()
		case "load":
			return makeLoad(args[1:])
		case "world":
			return serveWorld(args[1])
		}
	}
	o, err := parseOptions(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if isolated() {
		if o.exec {
			return driveExec(o)
		}
		return drive(o)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return runIsolated(ctx)
}

func parseOptions(args []string) (options, error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	o := options{}
	flags.StringVar(&o.usher, "usher", "bin/usher", "`path` of the usher to measure")
	flags.BoolVar(&o.exec, "exec", false, "measure programs under usher exec")
	flags.IntVar(&o.rounds, "rounds", 5, "how often each peer has its turn")
	flags.DurationVar(&o.take, "time", 2*time.Second, "how long a turn is")
	peers := flags.String("peers", strings.Join(peerNames, ","), "the peers, joined by commas")
	modes := flags.String("modes", "", "the modes, joined by commas; all if empty")
	flags.StringVar(&o.output, "o", "", "`file` to append each result to, as a line of JSON")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if o.rounds < 1 || o.take < 100*time.Millisecond {
		return o, errors.New("one round of 100ms is the least")
	}
	var err error
	if o.peers, err = choose("peer", *peers, peerNames); err != nil {
		return o, err
	}
	all := modeNames()
	if o.exec {
		all = execModes
	}
	if o.modes = all; *modes != "" {
		o.modes, err = choose("mode", *modes, all)
	}
	return o, err
}

// choose returns those of all that the list names.
func choose(what, list string, all []string) ([]string, error) {
	var chosen []string
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("unknown %s %q, want some of %s", what, name, strings.Join(all, ","))
		}
	}
	for _, name := range all {
		if slices.Contains(names, name) {
			chosen = append(chosen, name)
		}
	}
	return chosen, nil
}
