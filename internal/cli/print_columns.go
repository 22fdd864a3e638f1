package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"k8s.io/client-go/util/jsonpath"

	"usher/registry"
)

// columns are those of a table that a user describes.
type columns struct {
	headers []string
	paths   []*jsonpath.JSONPath
}

// newColumnPrinter returns what prints a line for each object, below the
// headers once.
func newColumnPrinter(format, argument string, noHeaders bool) (objectPrinter, error) {
	if argument == "" {
		return nil, usagef("custom-columns format specified but no custom columns given")
	}
	headers, paths, err := columnWords(format, argument)
	if err != nil {
		return nil, err
	}
	c := columns{headers: headers}
	for i, path := range paths {
		parsed, err := relaxedPath(fmt.Sprint("column", i), path)
		if err != nil {
			return nil, usageError{err}
		}
		c.paths = append(c.paths, parsed)
	}
	p := new(tablePrinter)
	return func(w io.Writer, objects []registry.Object, _ bool) error {
		var rows [][]string
		if !noHeaders {
			rows, noHeaders = append(rows, c.headers), true
		}
		for _, obj := range objects {
			row, err := c.row(obj)
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		p.w = w
		return p.print(rows)
	}, nil
}

// columnWords returns the headers and the paths of columns: HEADER:PATH,…, or a
// file with a line of each.
func columnWords(format, argument string) (headers, paths []string, err error) {
	if format == "custom-columns-file" {
		data, err := os.ReadFile(argument)
		if err != nil {
			return nil, nil, fmt.Errorf("error reading template %s, %v", argument, err)
		}
		return columnFile(string(data))
	}
	for spec := range strings.SplitSeq(argument, ",") {
		header, path, ok := strings.Cut(spec, ":")
		if !ok {
			return nil, nil, usagef("unexpected custom-columns spec: %s, expected <header>:<json-path-expr>", spec)
		}
		headers, paths = append(headers, header), append(paths, path)
	}
	return headers, paths, nil
}

func columnFile(text string) (headers, paths []string, err error) {
	const form = "Expected format is one line of space separated headers, one line of space separated column specs."
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	switch {
	case text == "":
		return nil, nil, errors.New("invalid template, missing header line. " + form)
	case len(lines) < 2:
		return nil, nil, errors.New("invalid template, missing spec line. " + form)
	}
	headers, paths = strings.Fields(lines[0]), strings.Fields(lines[1])
	if len(headers) != len(paths) {
		return nil, nil, fmt.Errorf("number of headers (%d) and field specifications (%d) don't match", len(headers), len(paths))
	}
	return headers, paths, nil
}

// row returns what an object has in the columns.
func (c columns) row(obj registry.Object) ([]string, error) {
	value, err := generic(obj)
	if err != nil {
		return nil, err
	}
	var row []string
	for _, path := range c.paths {
		found, err := path.FindResults(value)
		if err != nil {
			return nil, err
		}
		var texts []string
		if len(found) == 0 || len(found[0]) == 0 {
			texts = []string{none}
		}
		for _, list := range found {
			for _, v := range list {
				texts = append(texts, printable(fmt.Sprint(v.Interface())))
			}
		}
		row = append(row, strings.Join(texts, ","))
	}
	return row, nil
}
