package cli

import (
	"os"

	"github.com/spf13/cobra"

	"usher/internal/agent"
)

// watchdogCommand runs this program as the watchdog of usher run.
func watchdogCommand() []string {
	path, err := os.Executable()
	if err != nil {
		path = os.Args[0]
	}
	return []string{path, "run-watchdog"}
}

// newWatchdogCommand is the other end of watchdogCommand.
func newWatchdogCommand(env Env) *cobra.Command {
	return &cobra.Command{
		Use: "run-watchdog", Hidden: true, Args: noArgs,
		Short: "End processes that usher run leaves behind when it is killed (usher run starts it)",
		RunE:  func(*cobra.Command, []string) error { return agent.RunWatchdog(env.Stdin) },
	}
}
