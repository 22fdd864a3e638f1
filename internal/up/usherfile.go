package up

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"usher/internal/agent"
)

// usherSpec is what usher.yaml may say.
type usherSpec struct {
	Namespace string        `json:"namespace"`
	Manifests []string      `json:"manifests"`
	Processes []processSpec `json:"processes"`
}

// processSpec is one kind of process. What Kubernetes has of it has Kubernetes'
// name.
type processSpec struct {
	Name           string               `json:"name"`
	Command        command              `json:"command"`
	Labels         map[string]string    `json:"labels"`
	Replicas       *int                 `json:"replicas"`
	Ports          []port               `json:"ports"`
	Env            map[string]string    `json:"env"`
	Dir            string               `json:"dir"`
	ReadinessProbe *corev1.Probe        `json:"readinessProbe"`
	RestartPolicy  corev1.RestartPolicy `json:"restartPolicy"`
}

// A command is a line for a shell, or a program and its arguments.
type command []string

func (c *command) UnmarshalJSON(data []byte) error {
	var line string
	if json.Unmarshal(data, &line) == nil {
		*c = nil
		if line = strings.TrimSpace(line); line != "" {
			*c = shell(line)
		}
		return nil
	}
	if err := json.Unmarshal(data, (*[]string)(c)); err != nil {
		return fmt.Errorf("command: %s is neither a string nor a list of strings", data)
	}
	return nil
}

// A port is a number, or what `usher run --port` takes.
type port string

func (p *port) UnmarshalJSON(data []byte) error {
	*p = port(strings.Trim(string(data), `"`))
	return nil
}

// readUsherFile reads usher.yaml, or another file of its form, and the Procfile
// beside it, if there is one. A process of both is as usher.yaml says, which need
// not say the command.
func readUsherFile(data []byte, d defaults) (*Project, error) {
	var spec usherSpec
	document, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(document, []byte("null")) {
		strict, err := kjson.UnmarshalStrict(document, &spec)
		if wrong := utilerrors.NewAggregate(append(strict, err)); wrong != nil { // nil errors do not count
			return nil, wrong
		}
	}
	p := &Project{Namespace: cmp.Or(d.namespace, spec.Namespace), Manifests: below(d.dir, spec.Manifests)}
	if spec.Manifests == nil {
		p.Manifests = below(d.dir, defaultManifests)
	}
	var errs []error
	for i, pattern := range spec.Manifests {
		if _, err := filepath.Match(pattern, ""); err != nil {
			errs = append(errs, field.Invalid(field.NewPath("manifests").Index(i), pattern, err.Error()))
		}
	}
	namespace := cmp.Or(p.Namespace, d.fallback) // what the file says is nothing to it when a flag says another
	errs = append(errs, wrongNamespace(namespace)...)
	beside := filepath.Join(d.dir, procfile)
	p.Files = []string{beside}
	listed, err := readBeside(beside, d, namespace)
	if err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", procfile, err))
	}
	var wrong []error
	p.Processes, wrong = spec.processes(listed, d, namespace)
	return p, utilerrors.NewAggregate(append(errs, wrong...))
}

// processes returns those of usher.yaml and those that a Procfile lists, in the
// order of that, and everything that is wrong with the former.
func (spec usherSpec) processes(listed []Process, d defaults, namespace string) (all []Process, errs []error) {
	names := make(map[string]bool)
	for i, s := range spec.Processes {
		path := field.NewPath("processes").Index(i)
		if at := place(listed, s.Name); at < len(listed) && s.Command == nil {
			s.Command = listed[at].Command
		}
		process, wrong := s.process(path, d, namespace)
		if names[s.Name] {
			wrong = append(wrong, field.Duplicate(path.Child("name"), s.Name))
		}
		names[s.Name] = true
		errs = append(errs, wrong...)
		all = append(all, process)
	}
	for _, process := range listed {
		if !names[process.Name] {
			all = append(all, process)
		}
	}
	slices.SortStableFunc(all, func(a, b Process) int { return cmp.Compare(place(listed, a.Name), place(listed, b.Name)) })
	return all, errs
}

// place returns where a process is in a list, or the length of that.
func place(list []Process, name string) int {
	if i := slices.IndexFunc(list, func(p Process) bool { return p.Name == name }); i >= 0 {
		return i
	}
	return len(list)
}

// process returns the process, and everything that is wrong with it.
func (s processSpec) process(path *field.Path, d defaults, namespace string) (Process, []error) {
	var errs []error
	p := Process{Workload: agent.Workload{
		Name: s.Name, Namespace: namespace, Labels: s.Labels, Replicas: 1, Command: s.Command,
		Dir: inside(d.dir, s.Dir), Readiness: s.ReadinessProbe, Restart: cmp.Or(s.RestartPolicy, d.restart),
	}}
	if s.Replicas != nil {
		p.Replicas = *s.Replicas
	}
	for i, text := range s.Ports {
		port, err := agent.ParsePort(string(text))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path.Child("ports").Index(i), err))
			continue
		}
		p.Ports = append(p.Ports, port)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			errs = append(errs, field.Invalid(path.Child("env"), name, "a name of a variable has no \"=\""))
		}
		p.Env = append(p.Env, name+"="+s.Env[name])
	}
	for _, err := range wrongWith(p.Workload) {
		if wrong, ok := errors.AsType[*field.Error](err); ok {
			wrong.Field = path.Child(wrong.Field).String()
		}
		errs = append(errs, err)
	}
	return p, errs
}

// wrongNamespace returns everything that is wrong with the namespace of all
// processes.
func wrongNamespace(namespace string) []error {
	var errs []error
	for _, msg := range validation.IsDNS1123Label(namespace) {
		errs = append(errs, field.Invalid(field.NewPath("namespace"), namespace, msg))
	}
	return errs
}

// wrongWith returns everything that is wrong with one process: its namespace is
// that of all.
func wrongWith(w agent.Workload) []error {
	return slices.DeleteFunc(flatten(w.Validate()), func(err error) bool {
		wrong, ok := errors.AsType[*field.Error](err)
		return ok && wrong.Field == "namespace"
	})
}

// below returns patterns of files as seen from dir.
func below(dir string, patterns []string) []string {
	var all []string
	for _, pattern := range patterns {
		all = append(all, Pattern(dir, pattern))
	}
	return all
}

// literally writes a name as a pattern that nothing else matches.
var literally = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// Pattern returns a pattern of files as seen from dir, which is a name and no
// pattern.
func Pattern(dir, pattern string) string { return inside(literally.Replace(dir), pattern) }

// inside returns path as seen from dir.
func inside(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
