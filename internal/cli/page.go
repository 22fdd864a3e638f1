package cli

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// A page is the description of an object, laid out as kubectl does: names in
// front of values, values in columns.
type page struct {
	buf bytes.Buffer
	w   *tabwriter.Writer
}

func newPage() *page {
	p := new(page)
	p.w = tabwriter.NewWriter(&p.buf, 0, 8, 2, ' ', 0)
	return p
}

// line writes cells, indented by level times two spaces.
func (p *page) line(level int, cells ...string) {
	for i := range cells {
		cells[i] = printable(cells[i])
	}
	fmt.Fprintf(p.w, "%s%s\n", strings.Repeat("  ", level), strings.Join(cells, "\t"))
}

// field writes a name and its value, "<none>" if there is none.
func (p *page) field(level int, name, value string) {
	if value == "" {
		value = none
	}
	p.line(level, name+":", value)
}

const none = "<none>"

// list writes a name in front of the first value, and the others below.
func (p *page) list(level int, name string, values []string) {
	if len(values) == 0 {
		p.field(level, name, "")
		return
	}
	name += ":"
	for _, v := range values {
		p.line(level, name, v)
		name = ""
	}
}

// labels writes key=value pairs.
func (p *page) labels(level int, name string, labels map[string]string) {
	var values []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		values = append(values, key+"="+labels[key])
	}
	p.list(level, name, values)
}

// lastApplied is an annotation of kubectl's, which repeats the object.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// annotations writes key: value pairs; long values and those of several lines
// stand below their key.
func (p *page) annotations(annotations map[string]string) {
	const longest = 140
	var values []string
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		value := strings.TrimSuffix(annotations[key], "\n")
		switch {
		case key == lastApplied:
		case len(key)+len(value)+2 <= longest && !strings.Contains(value, "\n"):
			values = append(values, key+": "+value)
		default:
			values = append(values, key+":")
			for line := range strings.SplitSeq(value, "\n") {
				values = append(values, "  "+line)
			}
		}
	}
	p.list(0, "Annotations", values)
}

// table writes rows below their columns, or "<none>" if there are none.
func (p *page) table(level int, name string, columns []string, rows [][]string) {
	if len(rows) == 0 {
		p.field(level, name, "")
		return
	}
	p.line(level, name+":")
	var rules []string
	for _, c := range columns {
		rules = append(rules, strings.Repeat("-", len(c)))
	}
	p.line(level+1, columns...)
	p.line(level+1, rules...)
	for _, row := range rows {
		p.line(level+1, row...)
	}
}

// text returns the page without white space at the ends of lines.
func (p *page) text() string {
	p.w.Flush()
	var out strings.Builder
	for line := range strings.Lines(p.buf.String()) {
		out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return out.String()
}
