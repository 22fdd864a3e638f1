package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseDocuments(t *testing.T) {
	const list = `{"kind":"List","apiVersion":"v1","items":[{"kind":"Pod","a":1},null,{"kind":"Pod","a":2}]}`
	tests := map[string]struct {
		in   string
		want []string // place: data
	}{
		"nothing":             {"", nil},
		"white space":         {" \n\t\n", nil},
		"comments":            {"# a\n---\n# b\n", nil},
		"one":                 {"a: 1\n", []string{`: {"a":1}`}},
		"two":                 {"a: 1\n---\na: 2\n", []string{`document 1: {"a":1}`, `document 2: {"a":2}`}},
		"empty ones between":  {"---\n---\na: 1\n---\n\n---\n# c\n--- \t\na: 2\n---\n", []string{`document 1: {"a":1}`, `document 2: {"a":2}`}},
		"no line end":         {"a: 1\n---\na: 2", []string{`document 1: {"a":1}`, `document 2: {"a":2}`}},
		"CR LF":               {"a: 1\r\n---\r\na: 2\r\n", []string{`document 1: {"a":1}`, `document 2: {"a":2}`}},
		"comment at marker":   {"a: 1\n--- # next\na: 2\n", []string{`document 1: {"a":1}`, `document 2: {"a":2}`}},
		"content at marker":   {"a: 1\n--- {a: 2}\n", []string{`document 1: {"a":1}`, `document 2: {"a":2}`}},
		"end marker":          {"a: 1\n...\na: 2\n", []string{`document 1: {"a":1}`, `document 2: {"a":2}`}},
		"directive":           {"%YAML 1.1\n# c\n---\na: 1\n", []string{`: {"a":1}`}},
		"dashes in a value":   {"a: |\n  x\n  ---\n  y\nb: ---x\n", []string{`: {"a":"x\n---\ny\n","b":"---x"}`}},
		"four dashes":         {"----: 1\n", []string{`: {"----":1}`}},
		"flow style":          {"{a: 1}", []string{`: {"a":1}`}},
		"JSON":                {`{"a":"\ud83d\ude00"}`, []string{`: {"a":"\ud83d\ude00"}`}},
		"JSON after JSON":     {`{"a":1} {"a":2}` + "\n" + `{"a":3}`, []string{`document 1: {"a":1}`, `document 2: {"a":2}`, `document 3: {"a":3}`}},
		"JSON and YAML":       {"{\"a\":1}\n---\na: 2\n", []string{`document 1: {"a":1}`, `document 2: {"a":2}`}},
		"JSON of many digits": {`{"a":12345678901234567}`, []string{`: {"a":12345678901234567}`}},
		"a list":              {list, []string{`item 1: {"a":1,"kind":"Pod"}`, `item 2: {"a":2,"kind":"Pod"}`}},
		"a list in YAML":      {"kind: List\nitems:\n- {a: 1, kind: Pod}\n---\na: 2\n", []string{`document 1, item 1: {"a":1,"kind":"Pod"}`, `document 2: {"a":2}`}},
		"a typed list": {`{"kind":"PodList","apiVersion":"v1","items":[{"a":1},{"kind":"Other"}]}`,
			[]string{`item 1: {"a":1,"apiVersion":"v1","kind":"Pod"}`, `item 2: {"kind":"Other"}`}},
		"a list of nothing": {`{"kind":"List","apiVersion":"v1"}`, nil},
		"scalars":           {"5\n---\ntrue\n---\n[a]\n", []string{`document 1: 5`, `document 2: true`, `document 3: ["a"]`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			documents, err := parseDocuments([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range documents {
				got = append(got, d.place+": "+string(d.data))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("documents (-want +got):\n%s", diff)
			}
		})
	}
}

// An error is of the line in the file, not of the line in the document.
func TestParseDocumentsErrors(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"syntax":         {"a: 1\n---\n\nb:\n  - x\n c\n", "yaml: line 5: did not find expected key"},
		"duplicate":      {"a: 1\n---\nb: 1\nb: 2\n", `line 4: key "b" already set in map`},
		"a second value": {"# c\n---\n{a: 1}\n{a: 2}\n", "yaml: line 3: did not find expected <document start>"},
		"JSON, nearly":   {`{"a":1,}` + "\n" + `{"a":2}`, "did not find expected <document start>"},
		"list of words":  {"kind: List\nitems: [a]\n", "read a List: json: cannot unmarshal string"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			documents, err := parseDocuments([]byte(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) || documents != nil {
				t.Errorf("error %v, documents %v, want %q", err, documents, tt.want)
			}
		})
	}
}

// FuzzParseDocuments checks that what is read is JSON, and that the documents
// of two files are those of the one file that they make.
func FuzzParseDocuments(f *testing.F) {
	for _, s := range []string{"a: 1\n---\na: 2\n", `{"a":1}{"a":2}`, "%YAML 1.1\n---\n{}", "kind: List\nitems: [{a: 1}]", "--- |\n x\n...\n", "5"} {
		f.Add([]byte(s), []byte(s))
	}
	f.Add([]byte(""), []byte("\xfe\xff")) // the mark of UTF-16
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if len(a) > 1<<12 || len(b) > 1<<12 {
			return // what YAML does with large ones is its own matter
		}
		a = append(a, '\n') // without, a block scalar would end without one
		first, err := parseDocuments(a)
		if err != nil {
			return
		}
		second, err := parseDocuments(b)
		if err != nil {
			return
		}
		both, err := parseDocuments(bytes.Join([][]byte{a, b}, []byte("---\n")))
		if err != nil {
			t.Fatalf("each alone is read, and both are not: %v", err)
		}
		data := func(documents []document) (list []string) {
			for _, d := range documents {
				if !json.Valid(d.data) {
					t.Errorf("not JSON: %q", d.data)
				}
				list = append(list, string(d.data))
			}
			return list
		}
		if diff := cmp.Diff(append(data(first), data(second)...), data(both)); diff != "" {
			t.Errorf("documents (-apart +together):\n%s", diff)
		}
	})
}
