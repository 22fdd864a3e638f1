package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSortByPath(t *testing.T) {
	tests := map[string]struct {
		in      []any
		want    []any
		wantErr string
	}{
		"numbers":            {[]any{int64(10), int64(9)}, []any{int64(9), int64(10)}, ""},
		"fractions":          {[]any{1.5, 0.5}, []any{0.5, 1.5}, ""},
		"text":               {[]any{"b", "a"}, []any{"a", "b"}, ""},
		"quantities":         {[]any{"1Gi", "900Mi", "1k"}, []any{"1k", "900Mi", "1Gi"}, ""},
		"lists":              {[]any{[]any{"a", "c"}, []any{"a", "b"}, []any{"a"}}, []any{[]any{"a"}, []any{"a", "b"}, []any{"a", "c"}}, ""},
		"some have nothing":  {[]any{"b", nil, "a"}, []any{nil, "a", "b"}, ""},
		"equal ones stay":    {[]any{"a", "a"}, []any{"a", "a"}, ""},
		"nobody has it":      {[]any{nil, nil}, nil, `couldn't find any field with path ".x" in the list of objects`},
		"of no order":        {[]any{true, false}, nil, "unsortable type: bool"},
		"of different types": {[]any{"a", int64(1)}, nil, "unsortable type: "},
		"none":               {nil, nil, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			items := append([]any(nil), tt.in...)
			err := sortByPath(items, ".x", func(v any) (any, error) {
				if v == nil {
					return map[string]any{}, nil
				}
				return map[string]any{"x": v}, nil
			})
			if tt.wantErr != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.wantErr) {
					t.Errorf("error %v, want %q", err, tt.wantErr)
				}
				return
			}
			if diff := cmp.Diff(tt.want, items); diff != "" || err != nil {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestGetSorted(t *testing.T) {
	f := newFake(t, finance)
	tests := map[string]result{
		"svc -n finance --sort-by=.spec.ports[0].name -o name":    {0, "service/empty\nservice/payment-service\n", ""},
		"svc -n finance --sort-by={.spec.clusterIP} --no-headers": {0, "empty             ClusterIP   10.96.111.62   <none>   80/TCP          0/0   2d2h\npayment-service   ClusterIP   10.96.37.195   <none>   80/TCP,53/UDP   1/2   2d2h\n", ""},
		"svc -n finance --sort-by=metadata.labels.tier -o name":   {0, "service/empty\nservice/payment-service\n", ""},
		"pods -n finance --sort-by=.status.podIP -o name":         {0, "pod/p1\npod/p2\n", ""},
		"pods -n finance --sort-by=.status.nope":                  {1, "", "error: couldn't find any field with path \".status.nope\" in the list of objects\n"},
		"pods -n none --sort-by=.status.nope":                     {0, "", "No resources found in none namespace.\n"},
	}
	for args, want := range tests {
		got := f.usher(t, "", append([]string{"get"}, strings.Fields(args)...)...)
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", args, diff)
		}
	}
}
