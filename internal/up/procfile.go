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

// readProcfile reads lines "name: command" for a shell. Empty ones and those
// that begin with # say nothing.
func readProcfile(data []byte, d defaults) (*Project, error) {
	p := &Project{Namespace: d.namespace, Manifests: below(d.dir, defaultManifests)}
	var errs []error
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
			Name: name, Namespace: cmp.Or(d.namespace, d.fallback), Replicas: 1, Restart: d.restart,
			Command: shell(command), Dir: d.dir,
		}
		switch {
		case !ok || command == "":
			errs = append(errs, fmt.Errorf("line %d: want NAME: COMMAND", number))
			continue
		case lines[name] > 0:
			errs = append(errs, fmt.Errorf("line %d: %w", number, field.Duplicate(field.NewPath("name"), name)))
		default:
			for _, err := range flatten(w.Validate()) {
				errs = append(errs, fmt.Errorf("line %d: %w", number, err))
			}
		}
		lines[name] = number
		p.Processes = append(p.Processes, Process{Workload: w})
	}
	return p, utilerrors.NewAggregate(errs)
}

// readBeside reads a Procfile that need not be there, for processes of a
// namespace.
func readBeside(file string, d defaults, namespace string) ([]Process, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p, err := readProcfile(data, d)
	for i := range p.Processes {
		p.Processes[i].Namespace = namespace
	}
	return p.Processes, err
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
