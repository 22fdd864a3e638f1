package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"usher/internal/api"
	"usher/internal/client"
)

// connectionNames are what a user may call connections. They are no objects,
// and so no Kind.
var connectionNames = []string{"connections", "connection", "conn", "connections." + api.Group}

// asksForConnections reports whether the arguments of get do.
func asksForConnections(args []string) bool {
	return len(args) > 0 && slices.Contains(connectionNames, strings.ToLower(args[0]))
}

// mostConnections is how many are shown: nobody reads more.
const mostConnections = 10_000

// connections prints what is open, of the Services that are named or of all.
func (q *query) connections(ctx context.Context, services []string) error {
	if err := checkOutput(q.print.output, "wide", "json", "yaml"); err != nil {
		return err
	}
	switch {
	case len(q.picking.files.paths) > 0 || q.watch || q.showLabels || q.showKind || q.sortBy != "" || len(q.labelColumns) > 0 || q.print.template != "":
		return usagef("connections are no objects: -f, --watch, --show-labels, -L, --show-kind, --sort-by and --template do not go with them")
	case q.picking.selects():
		return usagef("connections are no objects, and have no labels: name their services instead")
	case slices.Contains(services, ""):
		return usagef("resource name may not be empty")
	}
	c, err := q.client()
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.Connections(ctx, q.connectionQuery(services))
	if err != nil {
		return err
	}
	if q.print.output == "json" || q.print.output == "yaml" {
		return printValue(q.env.Stdout, q.print.output, list)
	}
	if len(list.Items) == 0 {
		q.sayNone(nil)
		return nil
	}
	if err := (&tablePrinter{w: q.env.Stdout}).print(q.connectionRows(list.Items, time.Now())); err != nil {
		return err
	}
	if more := list.RemainingItemCount; more != nil {
		fmt.Fprintf(q.env.Stderr, "%d more are not shown\n", *more)
	}
	return nil
}

func (q *query) connectionQuery(services []string) client.ConnectionOptions {
	o := client.ConnectionOptions{Namespace: q.requestNamespace(), Services: services, Limit: mostConnections}
	if q.picking.everywhere {
		o.Namespace = ""
	}
	return o
}

func (q *query) connectionRows(list []api.Connection, now time.Time) [][]string {
	var rows [][]string
	add := func(namespace string, columns, wide []string) {
		var row []string
		if q.picking.everywhere {
			row = append(row, namespace)
		}
		row = append(row, columns...)
		if q.print.output == "wide" {
			row = append(row, wide...)
		}
		rows = append(rows, row)
	}
	if !q.print.noHeaders {
		add("NAMESPACE",
			[]string{"SERVICE", "PROTOCOL", "CLIENT", "VIP", "BACKEND", "AGE", "BYTES-UP", "BYTES-DOWN", "STATE", "PATH"},
			[]string{"PID", "COMMAND", "RTT", "PORT", "LISTENER", "POD", "NODE"})
	}
	text := func(s string) string { return printable(cmp.Or(s, "<none>")) }
	for _, c := range list {
		add(printable(c.Namespace), []string{
			printable(c.Service), printable(c.Protocol), text(c.Client), printable(c.VIP), text(c.Backend),
			duration.HumanDuration(max(0, now.Sub(c.StartTime.Time))),
			strconv.FormatUint(c.BytesUp, 10), strconv.FormatUint(c.BytesDown, 10), printable(c.State), text(c.Path),
		}, []string{
			pidText(c.PID), text(c.Command), rttText(c.RTT), text(c.PortName), text(c.Listener), text(c.Pod), text(c.Node),
		})
	}
	return rows
}

func pidText(pid int) string {
	if pid == 0 {
		return "<none>"
	}
	return strconv.Itoa(pid)
}

func rttText(rtt *metav1.Duration) string {
	if rtt == nil {
		return "<none>"
	}
	return rtt.Duration.String()
}
