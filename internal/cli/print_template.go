package cli

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"text/template"

	"k8s.io/client-go/util/jsonpath"

	"usher/registry"
)

// templateArgument returns the template that an argument is, or that the file
// of this name has.
func templateArgument(format, argument string) (string, error) {
	switch {
	case argument == "":
		return "", usagef("template format specified but no template given")
	case !strings.HasSuffix(format, "file"):
		return argument, nil
	}
	data, err := os.ReadFile(argument)
	if err != nil {
		return "", fmt.Errorf("error reading --template %s, %v", argument, err)
	}
	return string(data), nil
}

func newJSONPathPrinter(format, argument string, allowMissing bool) (objectPrinter, error) {
	text, err := templateArgument(format, argument)
	if err != nil {
		return nil, err
	}
	path := jsonpath.New("out").AllowMissingKeys(allowMissing)
	if err := path.Parse(text); err != nil {
		return nil, usagef("error parsing jsonpath %s, %v", text, err)
	}
	path.EnableJSONOutput(format == "jsonpath-as-json")
	return func(w io.Writer, objects []registry.Object, one bool) error {
		value, err := generic(asDocument(objects, one))
		if err != nil {
			return err
		}
		if err := path.Execute(w, value); err != nil {
			return fmt.Errorf("error executing jsonpath %q: Error executing template: %v. Printing more information for debugging the template:\n"+
				"\ttemplate was:\n\t\t%v\n\tobject given to jsonpath engine was:\n\t\t%#v", text, err, text, value)
		}
		return nil
	}, nil
}

func newTemplatePrinter(format, argument string, allowMissing bool) (objectPrinter, error) {
	text, err := templateArgument(format, argument)
	if err != nil {
		return nil, err
	}
	functions := template.FuncMap{"exists": exists, "base64decode": func(s string) (string, error) {
		data, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return "", fmt.Errorf("base64 decode failed: %v", err)
		}
		return string(data), nil
	}}
	parsed, err := template.New("output").Funcs(functions).Parse(text)
	if err != nil {
		return nil, usagef("error parsing template %s, %v", text, err)
	}
	if !allowMissing {
		parsed.Option("missingkey=error")
	}
	return func(w io.Writer, objects []registry.Object, one bool) error {
		data, err := json.Marshal(asDocument(objects, one))
		if err != nil {
			return err
		}
		var value map[string]any
		if err := json.Unmarshal(data, &value); err != nil {
			return err
		}
		if err := parsed.Execute(w, value); err != nil {
			return fmt.Errorf("error executing template %q: %v", text, err)
		}
		return nil
	}, nil
}

// exists reports, to templates, whether item has something at the keys and
// indices that follow.
func exists(item any, at ...any) bool {
	for _, i := range at {
		switch in := item.(type) {
		case map[string]any:
			key, ok := i.(string)
			if !ok {
				return false
			}
			item = in[key]
		case []any:
			n, ok := i.(int)
			if !ok || n < 0 || n >= len(in) {
				return false
			}
			item = in[n]
		default:
			return false
		}
	}
	return item != nil
}

var relaxed = regexp.MustCompile(`^\{\.?([^{}]+)\}$|^\.?([^{}]+)$`)

// relaxedPath parses a path that may lack its dot or its braces: x.y, .x.y,
// {x.y} or {.x.y}.
func relaxedPath(name, path string) (*jsonpath.JSONPath, error) {
	if path != "" {
		parts := relaxed.FindStringSubmatch(path)
		if parts == nil {
			return nil, errors.New("unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'")
		}
		path = "{." + parts[1] + parts[2] + "}"
	}
	parsed := jsonpath.New(name).AllowMissingKeys(true)
	return parsed, parsed.Parse(path)
}
