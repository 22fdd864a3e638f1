package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"usher/registry"
)

// objectFormats are those in which every command that prints objects can.
var objectFormats = []string{
	"json", "yaml", "name", "go-template", "go-template-file", "jsonpath", "jsonpath-as-json", "jsonpath-file", "template", "templatefile",
}

// getFormats are those that get has beside them.
var getFormats = []string{"wide", "custom-columns", "custom-columns-file"}

// printFlags say how objects are printed.
type printFlags struct {
	output       string
	template     string // the argument of a format that needs one, if it is not there
	allowMissing bool   // a field that an object has not is no error
	managed      bool   // with managedFields
	noHeaders    bool   // of custom columns
	formats      []string
}

// addFlags gives cmd the flags, and beside objectFormats those of more.
func (p *printFlags) addFlags(cmd *cobra.Command, more ...string) {
	p.formats = slices.Concat(more, objectFormats)
	f := cmd.Flags()
	usage := "json, yaml, name, jsonpath=, go-template="
	if len(more) > 0 {
		usage = "wide, " + usage + ", custom-columns="
	}
	f.StringVarP(&p.output, "output", "o", "", usage+", or their -file=")
	var completions []cobra.Completion
	for _, format := range p.formats {
		if p.takesArgument(format) {
			format += "="
		}
		completions = append(completions, format)
	}
	complete(cmd, "output", cobra.FixedCompletions(completions, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
	f.StringVar(&p.template, "template", "", "template, or the file with it, for the formats that need one")
	f.BoolVar(&p.allowMissing, "allow-missing-template-keys", true, "a field that is not there is no error of a template")
	f.BoolVar(&p.managed, "show-managed-fields", false, "with managedFields, in json and yaml")
}

// An objectPrinter prints objects. They are a List, unless one was asked for.
// It may be called again, with what came after.
type objectPrinter func(w io.Writer, objects []registry.Object, one bool) error

// oneByOne returns what prints objects as they come, each by itself.
func (p *printFlags) oneByOne(w io.Writer, print objectPrinter) func(registry.Object) error {
	first := true
	return func(obj registry.Object) error {
		if p.output == "yaml" && !first {
			if _, err := fmt.Fprintln(w, "---"); err != nil {
				return err
			}
		}
		first = false
		return print(w, []registry.Object{obj}, true)
	}
}

// printer returns what prints objects in the format that was asked for, or nil
// if that is the one of the command itself.
func (p *printFlags) printer() (objectPrinter, error) {
	output := p.output
	if output == "" && p.template != "" {
		output = "go-template"
	}
	format, argument, given := strings.Cut(output, "=")
	if given && !p.takesArgument(format) {
		format = output // which there is not
	}
	if err := checkOutput(format, p.formats...); err != nil {
		return nil, err
	}
	argument = cmp.Or(p.template, argument)
	switch format {
	case "", "wide":
		return nil, nil
	case "name":
		return printNames, nil
	case "json", "yaml":
		return func(w io.Writer, objects []registry.Object, one bool) error {
			return printObjects(w, format, objects, one, p.managed)
		}, nil
	case "custom-columns", "custom-columns-file":
		return newColumnPrinter(format, argument, p.noHeaders)
	case "jsonpath", "jsonpath-as-json", "jsonpath-file":
		return newJSONPathPrinter(format, argument, p.allowMissing)
	}
	return newTemplatePrinter(format, argument, p.allowMissing)
}

func (p *printFlags) takesArgument(format string) bool {
	return slices.Contains(p.formats, format) && !slices.Contains([]string{"json", "yaml", "name", "wide"}, format)
}

func printNames(w io.Writer, objects []registry.Object, _ bool) error {
	for _, obj := range objects {
		if _, err := fmt.Fprintln(w, objectName(registry.KeyOf(obj))); err != nil {
			return err
		}
	}
	return nil
}

// objectName names an object as -o name does: service/web.
func objectName(key registry.Key) string { return typeName(key.Kind) + "/" + key.Name }

// printObjects prints objects as json or yaml.
func printObjects(w io.Writer, format string, objects []registry.Object, one, managed bool) error {
	if !managed {
		var printed []registry.Object
		for _, obj := range objects {
			printed = append(printed, withoutOwners(obj))
		}
		objects = printed
	}
	return printValue(w, format, asDocument(objects, one))
}

// asDocument returns objects as what is printed: one document.
func asDocument(objects []registry.Object, one bool) any {
	if one && len(objects) == 1 {
		return objects[0]
	}
	return map[string]any{
		"apiVersion": "v1", "kind": "List", "metadata": map[string]string{"resourceVersion": ""},
		"items": append([]registry.Object{}, objects...), // never nil: a list has its items
	}
}

// generic returns a value as JSON has it, but with int64 for whole numbers.
func generic(value any) (any, error) {
	data, err := utiljson.Marshal(value)
	if err != nil {
		return nil, err
	}
	var out any
	err = utiljson.Unmarshal(data, &out)
	return out, err
}
