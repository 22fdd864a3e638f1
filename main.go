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
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := cli.Main(ctx, cli.Env{
		Stdin:    os.Stdin,
		Stdout:   os.Stdout,
		Stderr:   os.Stderr,
		Getenv:   os.Getenv,
		Defaults: defaults,
	}, os.Args[1:])
	stop()
	os.Exit(code)
}
