package agent

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writes keeps every Write apart.
type writes []string

func (w *writes) Write(p []byte) (int, error) {
	*w = append(*w, string(p))
	return len(p), nil
}

func TestLineWriter(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	tests := map[string]struct {
		in   []string
		want writes
	}{
		"lines":                       {in: []string{"a\nb\n"}, want: writes{"p | a\n", "p | b\n"}},
		"an empty line":               {in: []string{"\n"}, want: writes{"p | \n"}},
		"a line in pieces":            {in: []string{"a", "b", "\nc\n"}, want: writes{"p | ab\n", "p | c\n"}},
		"no end":                      {in: []string{"a\nb"}, want: writes{"p | a\n", "p | b\n"}},
		"nothing":                     {in: []string{""}},
		"a line that is far too long": {in: []string{long, "y\n"}, want: writes{"p | " + long + "\n", "p | y\n"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got writes
			w := &lineWriter{w: &got, prefix: "p | "}
			for _, s := range tt.in {
				if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
					t.Fatalf("wrote %d, %v, want %d", n, err, len(s))
				}
			}
			if err := w.flush(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
