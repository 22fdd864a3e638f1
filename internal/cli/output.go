package cli

import (
	"encoding/json"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// addOutputFlag gives cmd the flag -o.
func addOutputFlag(cmd *cobra.Command, output *string, formats ...string) {
	usage := strings.Join(formats[:len(formats)-1], ", ") + " or " + formats[len(formats)-1]
	cmd.Flags().StringVarP(output, "output", "o", "", strings.TrimPrefix(usage, " or "))
	complete(cmd, "output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

// checkOutput checks the value of -o.
func checkOutput(output string, formats ...string) error {
	if output != "" && !slices.Contains(formats, output) {
		return usagef("unable to match a printer suitable for the output format %q, allowed formats are: %s",
			output, strings.Join(slices.Sorted(slices.Values(formats)), ","))
	}
	return nil
}

// printValue prints anything as json or yaml, with the fields in the order of
// their names as kubectl has them.
func printValue(w io.Writer, output string, value any) error {
	data, err := yaml.Marshal(value)
	if err == nil && output == "json" {
		data, err = indentJSON(value)
	}
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

func indentJSON(value any) ([]byte, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var generic any
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	if err := d.Decode(&generic); err != nil {
		return nil, err
	}
	var out strings.Builder
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	err = e.Encode(generic)
	return []byte(out.String()), err
}

// printable replaces what could command a terminal, or break a line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
}
