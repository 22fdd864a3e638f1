package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestTablePrinter(t *testing.T) {
	var out strings.Builder
	p := &tablePrinter{w: &out}
	for _, rows := range [][][]string{
		{{"NAME", "A", "AGE"}, {"x", "größer", "1s"}},
		{{"a-longer-name", "y", "2s"}},
		{{"z", "", "3s"}}, // the columns stay where they have been
	} {
		if err := p.print(rows); err != nil {
			t.Fatal(err)
		}
	}
	const want = `NAME   A        AGE
x      größer   1s
a-longer-name   y        2s
z                        3s
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestTableView(t *testing.T) {
	table := &metav1.Table{
		ColumnDefinitions: []metav1.TableColumnDefinition{{Name: "Name", Format: "name"}, {Name: "Count"}, {Name: "More", Priority: 1}},
		Rows: []metav1.TableRow{
			{Cells: []any{"a", 1234567.0, "m"}, Object: runtime.RawExtension{Raw: []byte(`{"metadata":{"namespace":"finance"}}`)}},
			{Cells: []any{"b\x1b[31m\u009b", nil}}, // a cell less than there are columns
		},
	}
	tests := map[string]struct {
		view tableView
		want [][]string
	}{
		"plain":      {tableView{}, [][]string{{"a", "1234567"}, {"b?[31m?", "<none>"}}},
		"everything": {tableView{wide: true, namespace: true, typed: "svc/", header: true}, [][]string{{"NAMESPACE", "NAME", "COUNT", "MORE"}, {"finance", "svc/a", "1234567", "m"}, {"", "svc/b?[31m?", "<none>"}}},
	}
	for name, tt := range tests {
		if diff := cmp.Diff(tt.want, tt.view.rows(table)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
