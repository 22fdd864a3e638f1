package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"usher/internal/config"
	"usher/internal/daemon"
	"usher/registry/etcd"
)

func newServeCommand(env Env) *cobra.Command {
	var socket, dataDir, file string
	var child bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: `Run the daemon in the foreground: the registry with its embedded etcd, the
proxy, the DNS and the API. It needs no configuration; config.yaml in the
repository has every key with its default.`,
		Example: `  usher serve
  usher serve --config usher.yaml --data-dir ./state
  USHER_VIEWS=loopback usher serve`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			flags := make(map[string]string)
			for name, key := range map[string]string{"socket": "api.socket", "data-dir": "dataDir"} {
				if f := cmd.Flag(name); f.Changed {
					flags[key] = f.Value.String()
				}
			}
			if file == "" {
				file = config.DefaultFile(env.Getenv)
			}
			c, err := config.Load(config.Sources{Defaults: env.Defaults, File: file, Getenv: env.Getenv, Flags: flags})
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(env.Stderr, &slog.HandlerOptions{Level: c.LogLevel}))
			ctx := cmd.Context()
			if child {
				var stop context.CancelFunc
				ctx, stop = withParent(ctx, env.Stdin)
				defer stop()
			}
			return daemon.Run(ctx, daemon.Options{Config: c, Version: version, Log: log, EtcdCommand: etcdCommand})
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "", "path of the API's unix socket")
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "directory of the state")
	cmd.Flags().StringVar(&file, "config", "", "configuration file")
	cmd.Flags().BoolVar(&child, "end-with-stdin", false, "end at the end of standard input (usher up starts it so)")
	_ = cmd.Flags().MarkHidden("end-with-stdin") // it is there
	return cmd
}

// withParent returns a context that also ends at the end of stdin: a pipe whose
// other end the parent has, however that ends. Its goroutine waits there for as
// long as the process lives.
func withParent(ctx context.Context, stdin io.Reader) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		stop()
	}()
	return ctx, stop
}

// etcdCommand runs this program as the embedded etcd.
func etcdCommand(c etcd.ServerConfig) *exec.Cmd {
	path, err := os.Executable()
	if err != nil {
		path = os.Args[0]
	}
	return exec.Command(path, "etcd-server", "--dir", c.Dir, "--socket", c.Socket)
}

// newEtcdCommand is the other end of etcdCommand.
func newEtcdCommand(env Env) *cobra.Command {
	var c etcd.ServerConfig
	cmd := &cobra.Command{
		Use: "etcd-server", Hidden: true, Args: noArgs,
		Short: "Run the embedded etcd (the daemon starts it)",
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.Dir == "" || c.Socket == "" {
				return fmt.Errorf("the daemon starts the embedded etcd; run usher serve")
			}
			return etcd.RunServer(cmd.Context(), c, env.Stdin)
		},
	}
	cmd.Flags().StringVar(&c.Dir, "dir", "", "directory of the data")
	cmd.Flags().StringVar(&c.Socket, "socket", "", "path of the unix socket")
	return cmd
}
