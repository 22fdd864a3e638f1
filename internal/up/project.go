package up

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"usher/internal/agent"
)

// The files that say what a project is, in the order in which they are looked
// for. A Procfile says what else there is to run where both are there.
const (
	usherFile = "usher.yaml"
	procfile  = "Procfile"
)

// defaultManifests are those of a project that does not say.
var defaultManifests = []string{"manifests/*.yaml", "manifests/*.yml", "manifests/*.json"}

// A Project is what to run, and with which objects.
type Project struct {
	Files     []string // that say it, absolute; they need not all be there
	Namespace string   // of the processes and of objects that do not say; "" if it does not say
	Manifests []string // patterns of files, absolute
	Processes []Process
}

// A Process is one kind of process, of which there may be several.
type Process struct {
	agent.Workload

	Env []string // NAME=VALUE, beside what the agent gives them
}

// Find returns the file of the project at path: path itself, or the one in that
// directory.
func Find(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the path %q does not exist", path)
	}
	if err != nil || !info.IsDir() {
		return path, err
	}
	for _, name := range []string{usherFile, procfile} {
		if file := filepath.Join(path, name); exists(file) {
			return file, nil
		}
	}
	return "", fmt.Errorf("there is neither %s nor %s in %s", usherFile, procfile, path)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return !errors.Is(err, fs.ErrNotExist)
}

// defaults are what a file of a project need not say.
type defaults struct {
	dir                 string // absolute
	namespace, fallback string // before what the file says, and after it
	restart             corev1.RestartPolicy
}

// Load reads the file of a project, and with usher.yaml, or what is named instead
// of it, the Procfile beside it. Its error names everything that is wrong.
// The processes are in the namespace of the file, unless namespace says another;
// in the end fallback is the one. once says that those without a restartPolicy
// are not started again.
func Load(file, namespace, fallback string, once bool) (*Project, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	read := readUsherFile
	if strings.HasPrefix(filepath.Base(file), procfile) { // also Procfile.dev
		read = readProcfile
	}
	defaults := defaults{dir: filepath.Dir(file), namespace: namespace, fallback: fallback, restart: corev1.RestartPolicyAlways}
	if once {
		defaults.restart = corev1.RestartPolicyNever
	}
	p, err := read(data, defaults)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	p.Files = append([]string{file}, p.Files...)
	return p, nil
}

// Scale sets how many there are of some processes, by their names: none of those
// with 0.
func (p *Project) Scale(replicas map[string]int) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(replicas)) {
		i := slices.IndexFunc(p.Processes, func(process Process) bool { return process.Name == name })
		if i < 0 {
			errs = append(errs, fmt.Errorf("scale %s: there is no such process", name))
			continue
		}
		p.Processes[i].Replicas = replicas[name]
		if replicas[name] == 0 {
			p.Processes = slices.Delete(p.Processes, i, i+1)
		} else if err := p.Processes[i].Validate(); err != nil {
			errs = append(errs, fmt.Errorf("scale %s: %w", name, err))
		}
	}
	return utilerrors.NewAggregate(errs)
}

// ManifestFiles returns the files that the patterns stand for, in lexical order.
func (p *Project) ManifestFiles() ([]string, error) {
	var files []string
	for _, pattern := range p.Manifests {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("manifests %q: %w", pattern, err)
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// Dirs returns the directories in which the files of the project are.
func (p *Project) Dirs() []string {
	var dirs []string
	for _, file := range p.Files {
		dirs = append(dirs, filepath.Dir(file))
	}
	for _, pattern := range p.Manifests {
		found, _ := filepath.Glob(filepath.Dir(pattern)) // a bad one is ManifestFiles' to say
		dirs = append(dirs, found...)
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}
