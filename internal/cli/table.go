package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// A tablePrinter prints rows as kubectl does: in columns three spaces apart
// and at least six wide, that remember how wide they have been.
type tablePrinter struct {
	w      io.Writer
	widths []int // with the space to the next column
}

// print prints rows; what is last in a row is not padded.
func (p *tablePrinter) print(rows [][]string) error {
	const padding, least = 3, 6
	for _, row := range rows {
		for i, cell := range row {
			if i == len(p.widths) {
				p.widths = append(p.widths, least)
			}
			p.widths[i] = max(p.widths[i], utf8.RuneCountInString(cell)+padding)
		}
	}
	var text strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			text.WriteString(cell)
			if i < len(row)-1 {
				text.WriteString(strings.Repeat(" ", p.widths[i]-utf8.RuneCountInString(cell)))
			}
		}
		text.WriteByte('\n')
	}
	_, err := io.WriteString(p.w, text.String())
	return err
}

// A tableView says how a server's Table is shown.
type tableView struct {
	wide      bool     // also the columns that are usually left out
	namespace bool     // before the other columns
	typed     string   // put before names, as in "service/"
	columns   []string // labels with a column of their own, after the others
	labels    bool     // all of them, as the last column
	header    bool
}

// rows returns the lines of a table.
func (v tableView) rows(t *metav1.Table) [][]string {
	var rows [][]string
	if v.header {
		var head []string
		if v.namespace {
			head = append(head, "NAMESPACE")
		}
		for _, c := range t.ColumnDefinitions {
			if c.Priority == 0 || v.wide {
				head = append(head, printable(strings.ToUpper(c.Name)))
			}
		}
		for _, label := range v.columns {
			head = append(head, printable(strings.ToUpper(label[strings.LastIndexByte(label, '/')+1:])))
		}
		if v.labels {
			head = append(head, "LABELS")
		}
		rows = append(rows, head)
	}
	for _, r := range t.Rows {
		var line []string
		if v.namespace {
			line = append(line, printable(metadataOf(r).Namespace))
		}
		for i, c := range t.ColumnDefinitions[:min(len(t.ColumnDefinitions), len(r.Cells))] {
			cell := printable(cellText(r.Cells[i]))
			if c.Format == "name" {
				cell = v.typed + cell
			}
			if c.Priority == 0 || v.wide {
				line = append(line, cell)
			}
		}
		for _, label := range v.columns {
			line = append(line, printable(metadataOf(r).Labels[label]))
		}
		if v.labels {
			line = append(line, printable(labels.FormatLabels(metadataOf(r).Labels)))
		}
		rows = append(rows, line)
	}
	return rows
}

func cellText(cell any) string {
	switch cell := cell.(type) {
	case nil:
		return "<none>"
	case float64:
		return strconv.FormatFloat(cell, 'f', -1, 64) // an integer as one
	}
	return fmt.Sprint(cell)
}

// metadataOf reads the metadata of the object that a row is about.
func metadataOf(r metav1.TableRow) metav1.ObjectMeta {
	var partial metav1.PartialObjectMetadata
	if json.Unmarshal(r.Object.Raw, &partial) != nil {
		return metav1.ObjectMeta{}
	}
	return partial.ObjectMeta
}
