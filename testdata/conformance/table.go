package main

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
)

// document has the table, below the root of the module.
const document = "docs/conformance.md"

// A row is one rule of the table.
type row struct {
	number string // "42, 43" when it stands for several
	rule   string
	shown  string // what shows it, as it is written
	tests  []test
}

// A test is one that the table names. That of a scenario is TestScripts/NAME,
// in the package at the root.
type test struct {
	dir, name string
}

func (t test) String() string { return path.Join("usher", t.dir) + " " + t.name }

// excused reports whether a row says why there is nothing to run.
func (r row) excused() bool { return strings.Contains(r.shown, "*not there*") }

// readRows returns the rows of all tables of the document that begin with a
// number.
func readRows(root fs.FS) ([]row, error) {
	text, err := fs.ReadFile(root, document)
	if err != nil {
		return nil, err
	}
	var rows []row
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		number := strings.TrimSpace(cells[0])
		if !strings.HasPrefix(line, "|") || !startsWithNumber.MatchString(number) {
			continue
		}
		if len(cells) != 3 {
			return nil, fmt.Errorf("%s: row %s has %d columns, want 3", document, number, len(cells))
		}
		r := row{number: number, rule: strings.TrimSpace(cells[1]), shown: strings.TrimSpace(cells[2])}
		r.tests = findTests(root, r.shown)
		rows = append(rows, r)
	}
	return rows, nil
}

var (
	startsWithNumber = regexp.MustCompile(`^\d`)
	named            = regexp.MustCompile("(?:([a-z]+)\\s+)?`(Test[A-Za-z0-9]*|[a-z0-9]+\\.txtar)`")
)

// findTests returns the tests that text names. A word before one says in which
// package it and those after it are: that with this name. Before the first
// word it is registry.
func findTests(root fs.FS, text string) []test {
	var tests []test
	dir := "registry"
	for _, m := range named.FindAllStringSubmatch(text, -1) {
		if d, ok := packageDir(root, m[1]); ok {
			dir = d
		}
		if script, ok := strings.CutSuffix(m[2], ".txtar"); ok {
			tests = append(tests, test{".", "TestScripts/" + script})
		} else {
			tests = append(tests, test{dir, m[2]})
		}
	}
	return tests
}

// packageDir returns the directory of the package with a name. That at the root
// is called main.
func packageDir(root fs.FS, name string) (string, bool) {
	switch name {
	case "":
		return "", false
	case "main":
		return ".", true
	}
	for _, parent := range []string{".", "internal", "registry"} {
		dir := path.Join(parent, name)
		if files, err := fs.Glob(root, dir+"/*.go"); err == nil && len(files) > 0 {
			return dir, true
		}
	}
	return "", false
}

// exists reports whether there is such a test.
func (t test) exists(root fs.FS) (bool, error) {
	if script, ok := strings.CutPrefix(t.name, "TestScripts/"); ok {
		_, err := fs.Stat(root, "testdata/script/"+script+".txtar")
		return err == nil, nil
	}
	files, err := fs.Glob(root, path.Join(t.dir, "*_test.go"))
	if err != nil {
		return false, err
	}
	for _, file := range files {
		text, err := fs.ReadFile(root, file)
		if err != nil {
			return false, err
		}
		if strings.Contains(string(text), "\nfunc "+t.name+"(t *testing.T)") {
			return true, nil
		}
	}
	return false, nil
}

// moduleRoot returns the root of the module, here or above.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(path.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == path.Dir(dir) {
			err = fs.ErrNotExist
		}
		dir = path.Dir(dir)
	}
	return "", fmt.Errorf("find go.mod: %w", err)
}
