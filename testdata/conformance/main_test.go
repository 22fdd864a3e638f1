package main

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// TestTable checks that each test exists that the document names, in a row or
// beside them, and that each row names one or says why not.
func TestTable(t *testing.T) {
	dir, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	root := os.DirFS(dir)
	rows, err := readRows(root)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, r := range rows {
		for number := range strings.SplitSeq(r.number, ", ") {
			if seen[number] {
				t.Errorf("row %s is there twice", number)
			}
			seen[number] = true
		}
		if len(r.tests) == 0 && !r.excused() {
			t.Errorf("row %s names no test, and does not say that it is *not there*", r.number)
		}
	}
	text, err := os.ReadFile(dir + "/" + document)
	if err != nil {
		t.Fatal(err)
	}
	for block := range strings.SplitSeq(strings.ReplaceAll(string(text), "\n|", "\n\n|"), "\n\n") {
		for _, named := range findTests(root, block) {
			if ok, err := named.exists(root); err != nil {
				t.Fatal(err)
			} else if !ok {
				t.Errorf("there is no test %v:\n%s", named, block)
			}
		}
	}
}

func TestReadRows(t *testing.T) {
	root := fstest.MapFS{
		"internal/api/api.go":      {},
		"registry/etcd/mirror.go":  {},
		"registry/x_test.go":       {Data: []byte("package registry\n\nfunc TestA(t *testing.T) {}\n")},
		"testdata/script/a1.txtar": {},
		document: {Data: []byte(strings.Join([]string{
			"Text with `TestZ`.",
			"| # | rule | shown by |",
			"|---|---|---|",
			"| 1 | one \\| way | `TestA`, api `TestB`, `TestC`. *differs*: no `word` |",
			"| 2, 3 | two | so `TestA`; etcd `TestD`, main `TestE`, `a1.txtar` |",
			"| 4 | three | *not there*: too large |",
		}, "\n"))},
	}
	rows, err := readRows(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rows {
		line := r.number + ":"
		for _, named := range r.tests {
			line += " " + named.dir + "/" + named.name
		}
		if r.excused() {
			line += " excused"
		}
		got = append(got, line)
	}
	want := []string{
		"1: registry/TestA internal/api/TestB internal/api/TestC",
		"2, 3: registry/TestA registry/etcd/TestD ./TestE ./TestScripts/a1",
		"4: excused",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	for named, want := range map[test]bool{
		{"registry", "TestA"}: true, {"registry", "Test"}: false, {".", "TestScripts/a1"}: true, {".", "TestScripts/b"}: false,
	} {
		if got, err := named.exists(root); got != want || err != nil {
			t.Errorf("%v exists: %v, %v", named, got, err)
		}
	}
}

// A row holds when all its tests ran and passed. A parent has its own end.
func TestCheck(t *testing.T) {
	rs := make(results)
	for _, e := range [][3]string{
		{"run", "TestA", ""}, {"run", "TestA/x", ""}, {"output", "TestA/x", "wrong\n"}, {"fail", "TestA/x", ""}, {"fail", "TestA", ""},
		{"run", "TestB", ""}, {"skip", "TestB/y", ""}, {"pass", "TestB", ""}, {"skip", "TestC", ""}, {"run", "TestD", ""},
	} {
		rs.note("p", e[0], e[1], e[2])
	}
	for name, want := range map[string]string{
		"TestA": "usher/p TestA: fail\n\twrong", "TestB": "", "TestB/y": "usher/p TestB/y: skip", "TestC": "usher/p TestC: skip",
		"TestD": "usher/p TestD did not run", "TestE": "usher/p TestE did not run",
	} {
		got := strings.Join(rs.check(row{tests: []test{{"p", name}}}), "\n")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if why := rs.check(row{shown: "nothing"}); len(why) == 0 {
		t.Error("a row without a test holds")
	}
}
