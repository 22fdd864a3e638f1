// Conformance runs the tests that docs/conformance.md names, and says which
// rows of it do not hold: because a test fails, because it was skipped, or
// because there is none. Scenarios among them drive the real daemon.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	failed, err := run(os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(2)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// run checks each row, writes what came of it to w, and returns how many rows
// failed.
func run(w io.Writer) (failed int, err error) {
	dir, err := moduleRoot()
	if err != nil {
		return 0, err
	}
	rows, err := readRows(os.DirFS(dir))
	if err != nil {
		return 0, err
	}
	results, err := runTests(dir, rows)
	if err != nil {
		return 0, err
	}
	passed, without := 0, 0
	for _, r := range rows {
		switch why := results.check(r); {
		case len(why) > 0:
			failed++
			fmt.Fprintf(w, "row %s: %s\n\t%s\n", r.number, r.rule, strings.Join(why, "\n\t"))
		case len(r.tests) == 0:
			without++
		default:
			passed++
		}
	}
	fmt.Fprintf(w, "%d passed, %d failed", passed, failed)
	if without > 0 {
		fmt.Fprintf(w, ", and %d that say why there is nothing to run", without)
	}
	fmt.Fprintln(w)
	return failed, nil
}

// A result is how a test ended: "pass", "fail" or "skip", "" when it did not
// run; and what it said.
type result struct {
	action string
	output []string
}

type results map[test]*result

// check returns why a row does not hold.
func (rs results) check(r row) []string {
	if len(r.tests) == 0 && !r.excused() {
		return []string{"it names no test, and does not say that it is *not there*"}
	}
	var why []string
	for _, t := range r.tests {
		got := rs[t]
		switch {
		case got == nil || got.action == "":
			why = append(why, t.String()+" did not run")
		case got.action != "pass":
			why = append(why, t.String()+": "+got.action)
			for _, line := range got.output[max(0, len(got.output)-20):] {
				why = append(why, "\t"+strings.TrimRight(line, "\n"))
			}
		}
	}
	return why
}

// runTests runs the tests of all rows, those of a package at once.
func runTests(dir string, rows []row) (results, error) {
	wanted := make(map[string][]string) // names of each package
	for _, r := range rows {
		for _, t := range r.tests {
			if !slices.Contains(wanted[t.dir], t.name) {
				wanted[t.dir] = append(wanted[t.dir], t.name)
			}
		}
	}
	all := make(results)
	for _, pkg := range slices.Sorted(maps.Keys(wanted)) {
		fmt.Fprintf(os.Stderr, "%d tests of ./%s\n", len(wanted[pkg]), pkg)
		if err := runPackage(dir, pkg, wanted[pkg], all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// runPackage runs tests of one package and adds how each of them ended. A
// package that does not compile has none that ran.
func runPackage(dir, pkg string, names []string, all results) error {
	var patterns []string
	for _, name := range names {
		patterns = append(patterns, "^"+strings.ReplaceAll(name, "/", "$/^")+"$")
	}
	cmd := exec.Command("go", "test", "-json", "-count=1", "-run", strings.Join(patterns, "|"), "./"+pkg)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		return fmt.Errorf("test %s: %w", pkg, err)
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var event struct{ Action, Test, Output string }
		if err := dec.Decode(&event); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the results of %s: %w", pkg, err)
		}
		all.note(pkg, event.Action, event.Test, event.Output)
	}
}

// note adds what an event of go test says about a test. What a subtest says is
// its parent's too.
func (rs results) note(pkg, action, name, output string) {
	for {
		t := test{pkg, name}
		if rs[t] == nil {
			rs[t] = new(result)
		}
		if output != "" {
			rs[t].output = append(rs[t].output, output)
		}
		switch action {
		case "pass", "fail", "skip":
			rs[t].action = action
			return
		}
		end := strings.LastIndexByte(name, '/')
		if end < 0 {
			return
		}
		name = name[:end]
	}
}
