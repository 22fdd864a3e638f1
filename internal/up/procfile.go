package up

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"usher/internal/agent"
)

// readProcfile reads a Procfile that is all that there is of a project.
func readProcfile(data []byte, d defaults) (*Project, error) {
	p := &Project{Namespace: d.namespace, Manifests: below(d.dir, defaultManifests)}
	namespace := cmp.Or(d.namespace, d.fallback)
	var errs []error
	p.Processes, errs = readLines(data, d, namespace)
	return p, utilerrors.NewAggregate(append(wrongNamespace(namespace), errs...))
}

// readLines reads lines "name: command" for a shell. Empty ones and those that
// begin with # say nothing. It returns everything that is wrong with them beside
// the processes, which are in namespace.
func readLines(data []byte, d defaults, namespace string) (all []Process, errs []error) {
	lines := make(map[string]int)
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		name, command, ok := strings.Cut(text, ":")
		name, command = strings.TrimSpace(name), strings.TrimSpace(command)
		w := agent.Workload{
			Name: name, Namespace: namespace, Replicas: 1, Restart: d.restart,
			Command: shell(command), Dir: d.dir,
		}
		switch {
		case !ok || command == "":
			errs = append(errs, fmt.Errorf("line %d: want NAME: COMMAND", number))
			continue
		case lines[name] > 0:
			errs = append(errs, fmt.Errorf("line %d: %w", number, field.Duplicate(field.NewPath("name"), name)))
		default:
			for _, err := range wrongWith(w) {
				errs = append(errs, fmt.Errorf("line %d: %w", number, err))
			}
		}
		lines[name] = number
		all = append(all, Process{Workload: w})
	}
	return all, errs
}

// readBeside reads the Procfile beside usher.yaml, which need not be there, for
// processes of a namespace.
func readBeside(file string, d defaults, namespace string) ([]Process, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, errs := readLines(data, d, namespace)
	return all, utilerrors.NewAggregate(errs)
}

// shell returns how a shell runs a command.
func shell(command string) []string { return []string{"/bin/sh", "-c", command} }

// flatten returns the errors that err joins.
func flatten(err error) []error {
	if a, ok := err.(utilerrors.Aggregate); ok {
		return a.Errors()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}
