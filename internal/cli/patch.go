package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"usher/internal/client"
	"usher/registry"
)

// patchTypes are the values of --type.
var patchTypes = map[string]types.PatchType{
	"json": types.JSONPatchType, "merge": types.MergePatchType, "strategic": types.StrategicMergePatchType,
}

// A patching is what patch was asked for.
type patching struct {
	*globals
	picking     picking
	print       printFlags
	dryRun      dryRun
	patch, file string
	typ         string
	subresource string
}

func newPatchCommand(g *globals) *cobra.Command {
	p := &patching{globals: g}
	cmd := &cobra.Command{
		Use:   "patch (-f FILE | TYPE NAME...) (-p PATCH | --patch-file FILE)",
		Short: "Change fields of objects",
		Long: `Change fields of objects by a patch, in JSON or YAML. --type says what it is:

  strategic   a part of the object; the elements of lists are merged by their
              keys, as are the ports of a Service by their numbers
  merge       a part of the object; lists are replaced (RFC 7396)
  json        a list of operations (RFC 6902)`,
		Example: `  usher patch svc web -p '{"spec":{"sessionAffinity":"ClientIP"}}'
  usher patch svc web --type=json -p '[{"op":"replace","path":"/spec/ports/0/port","value":81}]'
  usher patch pod web-0 --subresource=status --type=merge --patch-file=status.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd.Context(), args) },
	}
	p.picking.files.addFlags(cmd)
	p.print.addFlags(cmd)
	p.dryRun.addFlag(cmd)
	f := cmd.Flags()
	f.StringVarP(&p.patch, "patch", "p", "", "the patch")
	f.StringVar(&p.file, "patch-file", "", "a file with the patch")
	f.StringVar(&p.typ, "type", "strategic", "json, merge or strategic")
	f.StringVar(&p.subresource, "subresource", "", "status: change that, and nothing else")
	complete(cmd, "type", cobra.FixedCompletions([]string{"json", "merge", "strategic"}, cobra.ShellCompDirectiveNoFileComp))
	complete(cmd, "subresource", cobra.FixedCompletions([]string{"status"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.ValidArgsFunction = g.completeObjects
	return cmd
}

// check refuses flags that do not go together.
func (p *patching) check(args []string) error {
	switch {
	case p.patch != "" && p.file != "":
		return usagef("cannot specify --patch and --patch-file together")
	case p.patch == "" && p.file == "":
		return usagef("must specify --patch or --patch-file containing the contents of the patch")
	case patchTypes[strings.ToLower(p.typ)] == "":
		return usagef("--type must be one of [json merge strategic], not %q", p.typ)
	case p.dryRun == dryRunClient:
		return usagef("--dry-run=client: it is the server that merges patches; did you mean --dry-run=server?")
	}
	return errors.Join(p.dryRun.check(), p.picking.check(args))
}

func (p *patching) run(ctx context.Context, args []string) error {
	if err := p.check(args); err != nil {
		return err
	}
	printer, err := p.print.printer()
	if err != nil {
		return err
	}
	text := []byte(p.patch)
	if p.file != "" {
		if text, err = os.ReadFile(p.file); err != nil {
			return fmt.Errorf("unable to read patch file: %v", err)
		}
	}
	patch, err := yaml.YAMLToJSON(text)
	if err != nil {
		return fmt.Errorf("unable to parse %q: %v", text, err)
	}
	c, err := p.client()
	if err != nil {
		return err
	}
	defer c.Close()
	c.DryRun = p.dryRun == dryRunServer
	objects, _, err := p.picking.objects(ctx, p.globals, c, args, "patching")
	errs := []error{err}
	for _, obj := range objects {
		errs = append(errs, p.one(ctx, c, obj, patch, printer))
	}
	if len(objects) == 0 && err == nil {
		return errors.New("no objects passed to patch")
	}
	return errors.Join(errs...)
}

// one patches an object, and says so.
func (p *patching) one(ctx context.Context, c *client.Client, old registry.Object, patch []byte, printer objectPrinter) error {
	typ := patchTypes[strings.ToLower(p.typ)]
	obj, err := c.Patch(ctx, registry.KeyOf(old), typ, patch, client.PatchOptions{FieldManager: "usher-patch", Subresource: p.subresource})
	if apierrors.IsUnsupportedMediaType(err) {
		return fmt.Errorf("%s is not supported by %s: %w", typ, registry.KindOf(old).GroupVersionKind, err)
	}
	if err != nil {
		return err
	}
	if printer != nil {
		return printer(p.env.Stdout, []registry.Object{obj}, true)
	}
	done := "patched"
	if reflect.DeepEqual(old, obj) {
		done = "patched (no change)"
	}
	_, err = fmt.Fprintf(p.env.Stdout, "%s %s%s\n", objectName(registry.KeyOf(obj)), done, p.dryRun.suffix())
	return err
}
