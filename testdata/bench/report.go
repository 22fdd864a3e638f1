//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// A figure is one that a sample has.
type figure struct {
	name string
	of   func(sample) float64
}

var (
	rate     = figure{"rate", func(s sample) float64 { return s.Rate }}
	cpu      = figure{"CPU µs", func(s sample) float64 { return s.CPU }}
	user     = figure{"in user", func(s sample) float64 { return s.User }}
	p50      = figure{"p50 µs", func(s sample) float64 { return s.P50 }}
	p99      = figure{"p99 µs", func(s sample) float64 { return s.P99 }}
	lost     = figure{"lost %", func(s sample) float64 { return 100 * s.Lost }}
	resident = figure{"bytes", func(s sample) float64 { return s.Resident }}
	held     = figure{"descriptors", func(s sample) float64 { return s.Descriptors }}
	others   = figure{"others", func(s sample) float64 { return s.Others }}
)

// printTable prints what the peers showed in one mode: their medians, and how
// one of them, ours, is to each.
func printTable(w io.Writer, m mode, all []sample, names []string, our string) error {
	fmt.Fprintf(w, "\n%s: %s", m.name, m.what)
	if busy := values(all, others); len(busy) > 0 && slices.Max(busy) > 0 {
		fmt.Fprintf(w, " (other work: %.0f %% of the machine, at most %.0f %%)", 100*median(busy), 100*slices.Max(busy))
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := []string{"peer"}
	for _, f := range m.columns {
		head = append(head, columnName(f, m.unit))
	}
	for _, f := range m.ratios {
		head = append(head, our+"'s "+strings.TrimSuffix(f.name, " µs"))
	}
	fmt.Fprintln(table, strings.Join(head, "\t"))
	ours := ofPeer(all, our)
	for _, name := range names {
		theirs := ofPeer(all, name)
		if len(theirs) == 0 {
			continue
		}
		line := []string{name}
		for _, f := range m.columns {
			line = append(line, formatFigure(median(values(theirs, f))))
		}
		for _, f := range m.ratios {
			line = append(line, formatRatio(ratioOf(byRound(ours, f), byRound(theirs, f)), name == our))
		}
		fmt.Fprintln(table, strings.Join(line, "\t"))
	}
	return table.Flush()
}

func columnName(f figure, unit string) string {
	if f.name == rate.name {
		return unit + "/s"
	}
	return f.name
}

func ofPeer(all []sample, name string) []sample {
	var list []sample
	for _, s := range all {
		if s.Peer == name {
			list = append(list, s)
		}
	}
	return list
}

func values(list []sample, f figure) []float64 {
	var all []float64
	for _, s := range list {
		all = append(all, f.of(s))
	}
	return all
}

func byRound(list []sample, f figure) map[int]float64 {
	all := map[int]float64{}
	for _, s := range list {
		all[s.Round] = f.of(s)
	}
	return all
}

// formatFigure gives three digits or more, and commas to what is long.
func formatFigure(x float64) string {
	switch {
	case x == 0:
		return "-"
	case x < 10:
		return fmt.Sprintf("%.2f", x)
	case x < 100:
		return fmt.Sprintf("%.1f", x)
	}
	digits := fmt.Sprintf("%.0f", x)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func formatRatio(r ratio, ours bool) string {
	switch {
	case r.rounds == 0 || ours:
		return "-"
	case r.rounds == 1:
		return fmt.Sprintf("%.2f", r.median)
	}
	return fmt.Sprintf("%.2f [%.2f-%.2f]", r.median, r.least, r.greatest)
}
