package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/yaml"

	"usher/internal/client"
	"usher/registry"
)

// exitTrouble is the exit code of diff when there is no saying what differs:
// 1 means that something does.
const exitTrouble = 2

// A difference is what diff was asked for.
type difference struct {
	*globals
	files   files
	managed bool
}

func newDiffCommand(g *globals) *cobra.Command {
	d := &difference{globals: g}
	cmd := &cobra.Command{
		Use:   "diff -f FILE",
		Short: "Show what apply would change",
		Long: `Show the difference between what objects are and what they would be, were the
manifests applied. Nothing is changed.

USHER_EXTERNAL_DIFF, or else KUBECTL_EXTERNAL_DIFF, names a program with its
arguments that compares two directories in the place of usher itself. The exit
code is 0 if there is no difference, 1 if there is one, and more after an error.`,
		Example: `  usher diff -f service.yaml
  cat *.yaml | usher diff -n finance -f -
  USHER_EXTERNAL_DIFF="colordiff -N -u" usher diff -R -f manifests/`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := d.run(cmd.Context())
			if _, differs := err.(exitCode); err == nil || differs || errors.As(err, new(usageError)) {
				return err
			}
			report(g.env.Stderr, cmd, err)
			return exitCode(exitTrouble)
		},
	}
	d.files.addFlags(cmd)
	cmd.Flags().BoolVar(&d.managed, "show-managed-fields", false, "with managedFields")
	return cmd
}

// A comparison is of an object as it is with the same as it would be, both as
// YAML. live is nil if it is not there.
type comparison struct {
	name         string // of the file: v1.Service.shop.web
	live, merged []byte
}

func (d *difference) run(ctx context.Context) error {
	manifests, err := d.readManifests(d.files, "diffing")
	if err != nil {
		return err
	}
	c, err := d.client()
	if err != nil {
		return err
	}
	defer c.Close()
	c.DryRun = true
	var all []comparison
	var errs []error
	for _, m := range manifests {
		v, err := d.compare(ctx, c, m)
		if err != nil {
			errs = append(errs, manifestError{"diffing", m.source, err})
			continue
		}
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b comparison) int { return cmp.Compare(a.name, b.name) })
	shown := d.show(ctx, all)
	if len(errs) == 0 {
		return shown
	}
	if _, differs := shown.(exitCode); !differs { // what differs is printed
		errs = append(errs, shown)
	}
	return errors.Join(errs...)
}

// compare returns what an object is and what it would be.
func (d *difference) compare(ctx context.Context, c *client.Client, m manifest) (comparison, error) {
	v := comparison{name: fileName(registry.KeyOf(m.object))}
	live, err := c.Get(ctx, registry.KeyOf(m.object))
	if err == nil {
		v.live, err = d.text(live)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return v, err
	}
	merged, _, err := applyManifest(ctx, c, m)
	if err == nil {
		v.merged, err = d.text(merged)
	}
	return v, err
}

func (d *difference) text(obj registry.Object) ([]byte, error) {
	if !d.managed {
		obj = withoutOwners(obj)
	}
	return yaml.Marshal(obj)
}

// fileName names the file with an object as kubectl does: group and version,
// kind, namespace, and name.
func fileName(key registry.Key) string {
	name := strings.Join([]string{key.Kind.Version, key.Kind.Kind, key.Namespace, key.Name}, ".")
	return strings.TrimPrefix(key.Kind.Group+"."+name, ".")
}

// show prints the differences. Its error is an exitCode if there are any.
func (d *difference) show(ctx context.Context, all []comparison) error {
	program := cmp.Or(d.env.Getenv("USHER_EXTERNAL_DIFF"), d.env.Getenv("KUBECTL_EXTERNAL_DIFF"))
	if program != "" {
		return d.showBy(ctx, program, all)
	}
	differ := false
	for _, v := range all {
		text := diff.Diff("LIVE/"+v.name, v.live, "MERGED/"+v.name, v.merged)
		differ = differ || len(text) > 0
		if _, err := d.env.Stdout.Write(text); err != nil {
			return err
		}
	}
	if differ {
		return exitCode(exitError)
	}
	return nil
}

// argument is what may stand behind the name of the program.
var argument = regexp.MustCompile(`^[a-zA-Z0-9-=]+$`)

// showBy lets a program compare two directories with the objects.
func (d *difference) showBy(ctx context.Context, program string, all []comparison) error {
	dir, err := os.MkdirTemp("", "usher-diff-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	live, merged := filepath.Join(dir, "LIVE"), filepath.Join(dir, "MERGED")
	if err := errors.Join(os.Mkdir(live, 0o700), os.Mkdir(merged, 0o700)); err != nil {
		return err
	}
	for _, v := range all {
		if err := writeFiles(map[string][]byte{filepath.Join(live, v.name): v.live, filepath.Join(merged, v.name): v.merged}); err != nil {
			return err
		}
	}
	words := strings.Split(program, " ")
	args := slices.DeleteFunc(words[1:], func(word string) bool { return !argument.MatchString(word) })
	cmd := exec.CommandContext(ctx, words[0], append(args, live, merged)...)
	cmd.Stdout, cmd.Stderr = d.env.Stdout, d.env.Stderr
	err = cmd.Run()
	if exited := (*exec.ExitError)(nil); errors.As(err, &exited) && exited.ExitCode() == exitError {
		return exitCode(exitError)
	}
	if err != nil {
		return fmt.Errorf("failed to run %q: %w", words[0], err)
	}
	return nil
}

func writeFiles(files map[string][]byte) error {
	for path, data := range files {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
