package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"usher/internal/api"
)

func newStatusCommand(g *globals) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "status", Short: "Show what the daemon does, and what needs attention", Args: noArgs,
		Example: "  usher status\n  usher status -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "json", "yaml"); err != nil {
				return err
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			defer c.Close()
			status, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if output != "" {
				return printValue(g.env.Stdout, output, status)
			}
			_, err = io.WriteString(g.env.Stdout, statusText(status, g.execText(status)))
			return err
		},
	}
	addOutputFlag(cmd, &output, "json", "yaml")
	return cmd
}

// execText says which modes of exec there are from here.
func (g *globals) execText(s *api.Status) string {
	var works, lacks []string
	for _, alike := range [][]string{{modeDirect, modeProxy}, {modePrivate}, {modeHost}} {
		if err := g.lacks(alike[0], s); err != nil {
			lacks = append(lacks, "not "+strings.Join(alike, " and ")+": "+firstLine(err))
		} else {
			works = append(works, alike...)
		}
	}
	auto, _ := g.chooseMode(s)
	if i := slices.Index(works, auto); i >= 0 {
		works[i] += " (the default here)"
	}
	return strings.Join(slices.Concat(works, lacks), ", ")
}

// statusText says in words what a Status does, and what exec can do here.
func statusText(s *api.Status, exec string) string {
	var text strings.Builder
	line := func(name, format string, args ...any) {
		value := strings.TrimRight(printable(fmt.Sprintf(format, args...)), " ")
		text.WriteString(strings.TrimRight(fmt.Sprintf("%-12s%s", name, value), " ") + "\n")
	}
	line("Daemon:", "usher %s, pid %d, node %s", s.UsherVersion, s.PID, s.NodeName)
	line("API:", "%s", strings.Join(s.API, ", "))
	line("Registry:", "%s (revision %d)", s.Registry, s.Revision)
	line("Services:", "%d in %s, with %d backends", s.Services, strings.Join(s.ServiceCIDR, ","), s.Backends)
	line("Domain:", "%s", s.ClusterDomain)
	name := "Views:"
	for _, v := range s.Views {
		nameserver := v.Nameserver
		if nameserver == "" {
			nameserver = "none"
		}
		line(name, "%s: %s, nameserver %s", v.Name, v.CIDR, nameserver)
		if v.Why != "" {
			line("", "  %s", v.Why)
		}
		name = ""
	}
	line("Exec:", "%s", exec)
	name = "Attention:"
	for _, c := range s.Conditions {
		line(name, "%s", c)
		name = ""
	}
	if len(s.Conditions) == 0 {
		line(name, "nothing needs any")
	}
	return text.String()
}
