// Usher gives every Service a stable virtual IP and a stable DNS name, and
// balances TCP and UDP over its live backends: ClusterIP Services without
// Kubernetes.
package main

import (
	"context"
	_ "embed"
	"os"
	"os/signal"
	"syscall"

	"usher/internal/cli"
)

// defaults is the configuration that the daemon starts from.
//
//go:embed config.yaml
var defaults []byte

func main() {
	ctx := context.Background()
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		if !signal.Ignored(s) { // as in the background of a script; what exec runs inherits it
			ctx, _ = signal.NotifyContext(ctx, s)
		}
	}
	os.Exit(cli.Main(ctx, cli.Env{
		Stdin:    os.Stdin,
		Stdout:   os.Stdout,
		Stderr:   os.Stderr,
		Getenv:   os.Getenv,
		Defaults: defaults,
	}, os.Args[1:]))
}
