package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"usher/internal/api"
	"usher/registry"
)

func newExplainCommand(g *globals) *cobra.Command {
	var output string
	fields := &fieldsQuery{globals: g}
	cmd := &cobra.Command{
		Use:   "explain tcp|udp TARGET:PORT | explain dns NAME [TYPE] | explain TYPE[.FIELD...]",
		Short: "Show what becomes of a connection or a DNS query, or what a field means",
		Long: `Show what the daemon would do with a connection, a datagram or a DNS query, and
why: the names that a resolver tries, the Service, where its port is listened at,
what becomes of each endpoint, and which is next. Nothing is connected to, and
nobody's turn is taken.

TARGET is a name as a program in the namespace would use it, or an address: a
ClusterIP, or what it is on loopback. PORT is a number or the name of a port of
the Service, and may be left out where it has one only.

The exit code is 0 if it works, and 1 if it does not.

Of a type of objects, or a field of it, explain shows what it means and which
fields it has, from the OpenAPI document of the daemon.`,
		Example: `  usher explain tcp payment-service.finance:80
  usher explain tcp payment-service:http -n finance
  usher explain udp 10.96.0.10:53
  usher explain dns payment-service.finance SRV
  usher explain svc.spec.ports
  usher explain pods --recursive --max-depth=2`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 1 && !slices.Contains(questions, args[0]):
			case len(args) == 2 && (args[0] == "tcp" || args[0] == "udp"):
			case (len(args) == 2 || len(args) == 3) && args[0] == "dns":
			default:
				return usagef("want: usher %s", cmd.Use)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return fields.run(cmd.Context(), args[0], output)
			}
			if fields.recursive || fields.depth != 0 || fields.apiVersion != "" {
				return usagef("--recursive, --max-depth and --api-version are for a type")
			}
			q := api.Question{About: args[0], Target: args[1], Namespace: g.requestNamespace()}
			if len(args) == 3 {
				q.Type = args[2]
			}
			return g.explain(cmd, q, output)
		},
		ValidArgsFunction: cobra.FixedCompletions(slices.Concat(questions, typeNames()), cobra.ShellCompDirectiveNoFileComp),
	}
	addOutputFlag(cmd, &output, "json", "yaml", plaintext)
	cmd.Flag("output").Usage = "json or yaml; of a type: " + plaintext
	fields.addFlags(cmd)
	return cmd
}

// questions are what explain may be asked about beside types.
var questions = []string{"tcp", "udp", "dns"}

func (g *globals) explain(cmd *cobra.Command, q api.Question, output string) error {
	if err := checkOutput(output, "json", "yaml"); err != nil {
		return err
	}
	c, err := g.client()
	if err != nil {
		return err
	}
	defer c.Close()
	explanation, err := c.Explain(cmd.Context(), q)
	if err != nil {
		return err
	}
	if output != "" {
		err = printValue(g.env.Stdout, output, explanation)
	} else {
		_, err = io.WriteString(g.env.Stdout, explanationText(explanation))
	}
	if err == nil && !explanation.Works {
		return exitCode(exitError)
	}
	return err
}

// explanationText lays an Explanation out as a page.
func explanationText(e *api.Explanation) string {
	p := newPage()
	for i, n := range e.Names {
		name := ""
		if i == 0 {
			name = "Names:"
		}
		p.line(0, name, n.Name+"  "+nameText(n))
		for _, r := range n.Records {
			p.line(0, "", "  "+viewText(r.View)+r.Record)
		}
	}
	if e.Service != "" {
		namespace, name, _ := strings.Cut(e.Service, "/")
		kind := ""
		if e.ServiceType != "" {
			kind = " (" + e.ServiceType + ")"
		}
		p.field(0, "Service", name+" -n "+namespace+kind)
	}
	if e.Port != "" {
		p.field(0, "Port", e.Port)
	}
	for _, f := range e.Frontends {
		p.field(0, "Frontend", f.Address)
		p.list(0, "Listeners", listenerLines(f.Listeners))
		p.list(0, "Endpoints", verdictLines(f.Endpoints))
		if f.Next != "" {
			p.field(0, "Next", f.Next)
		}
	}
	if e.ServiceType == "headless" && e.Port != "" {
		p.list(0, "Endpoints", verdictLines(e.Endpoints))
	}
	p.field(0, "Works", map[bool]string{true: "yes", false: "no"}[e.Works]+": "+e.Conclusion)
	if len(e.Advice) > 0 {
		p.list(0, "Advice", e.Advice)
	}
	return p.text()
}

// nameText says what there is at a name.
func nameText(n api.NameExplanation) string {
	text := n.Rcode
	if n.Why != "" {
		text += ": " + n.Why
	}
	if n.Forwarded != "" {
		text = strings.TrimPrefix(text+"; ", "; ") + n.Forwarded + " is asked of " + strings.Join(n.Upstreams, ", ")
	}
	return text
}

// viewText says which View something is in.
func viewText(view string) string {
	if view == "" {
		return ""
	}
	return view + ": "
}

func listenerLines(listeners []api.ListenerReport) []string {
	var lines []string
	for _, l := range listeners {
		text := viewText(l.View) + l.Address
		if l.Moved {
			text += " (the port is moved: it is under 1024)"
		}
		if l.Error != "" {
			text += " is not open: " + l.Error
		}
		lines = append(lines, text)
	}
	return lines
}

// verdictLines says of each endpoint whether it is used, and if not, why.
func verdictLines(verdicts []registry.Verdict) []string {
	var lines []string
	for _, v := range verdicts {
		word := "not used"
		if v.Used {
			word = "used"
		}
		if v.Reason != "" {
			word += ": " + v.Reason
		}
		lines = append(lines, fmt.Sprintf("%s  %s", verdictName(v), word))
	}
	return lines
}

// verdictName names an endpoint by its address and its Pod, as far as it has
// them.
func verdictName(v registry.Verdict) string {
	switch {
	case v.Pod == "":
		return v.Address
	case v.Address == "":
		return "pod " + v.Pod
	}
	return v.Address + " (pod " + v.Pod + ")"
}
