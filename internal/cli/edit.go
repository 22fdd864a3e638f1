package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"usher/internal/client"
	"usher/registry"
)

// An editing is what edit was asked for.
type editing struct {
	*globals
	picking     picking
	output      string
	subresource string
}

func newEditCommand(g *globals) *cobra.Command {
	e := &editing{globals: g}
	cmd := &cobra.Command{
		Use:   "edit (-f FILE | TYPE [NAME...])",
		Short: "Change objects in an editor",
		Long: `Open objects in an editor, and send what was changed. KUBE_EDITOR or else EDITOR
names the editor; without them it is vi. What the daemon finds invalid is opened
again, with what is wrong on top.`,
		Example: `  usher edit svc web
  EDITOR=nano usher edit svc web api -n finance
  usher edit pod web-0 --subresource=status -o json`,
		RunE: func(cmd *cobra.Command, args []string) error { return e.run(cmd.Context(), args) },
	}
	e.picking.files.addFlags(cmd)
	addOutputFlag(cmd, &e.output, "json", "yaml")
	cmd.Flags().StringVar(&e.subresource, "subresource", "", "status: change that, and nothing else")
	complete(cmd, "subresource", cobra.FixedCompletions([]string{"status"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.ValidArgsFunction = g.completeObjects
	return cmd
}

func (e *editing) run(ctx context.Context, args []string) error {
	if err := checkOutput(e.output, "json", "yaml"); err != nil {
		return err
	}
	if targets, err := parseTargets(args); err == nil {
		e.picking.all = !hasNames(targets) // of a type alone, all
	}
	if err := e.picking.check(args); err != nil {
		return err
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	defer c.Close()
	objects, _, err := e.picking.objects(ctx, e.globals, c, args, "editing")
	switch {
	case err != nil:
		return err
	case len(objects) == 0:
		return errors.New("edit cancelled, no objects found")
	}
	for i, obj := range objects {
		objects[i] = withoutOwners(obj)
	}
	s := &editSession{editing: e, client: c, objects: objects}
	return s.run(ctx)
}

// An editSession is the editing of some objects until they are right or the
// user gives up.
type editSession struct {
	*editing
	client  *client.Client
	objects []registry.Object

	file    editFile
	reasons []editReason // why the file is opened again
	failed  bool         // an object could not be sent, and is not wrong either
}

// run opens the objects, and again while there is something wrong with them.
func (s *editSession) run(ctx context.Context) error {
	var content bytes.Buffer
	format := s.output
	if format == "" {
		format = "yaml"
	}
	if err := printObjects(&content, format, s.objects, true, false); err != nil {
		return err
	}
	original, before := content.Bytes(), []byte(nil)
	s.file = editFile{json: format == "json"}
	for text := original; ; {
		edited, err := s.file.open(ctx, s.env, s.reasons, text)
		switch {
		case err != nil:
			return s.keep(err)
		case len(s.reasons) > 0 && sameContent(before, edited):
			return s.keep(errors.New("Edit cancelled, no valid changes were saved."))
		case sameContent(original, edited):
			return s.cancel("Edit cancelled, no changes made.")
		case len(bytes.TrimSpace(withoutComments(edited))) == 0:
			return s.cancel("Edit cancelled, saved file was empty.")
		}
		before, text, s.reasons, s.failed = edited, withoutHead(edited), nil, false
		if err := s.send(ctx, edited); err != nil {
			return s.keep(err)
		}
		if len(s.reasons) == 0 {
			return s.end()
		}
	}
}

// cancel ends the session without a change.
func (s *editSession) cancel(why string) error {
	s.file.remove()
	fmt.Fprintln(s.env.Stderr, why)
	return nil
}

// keep ends the session by an error, and says where the changes are.
func (s *editSession) keep(err error) error {
	if s.file.path != "" {
		fmt.Fprintf(s.env.Stderr, "A copy of your changes has been stored to %q\n", s.file.path)
	}
	return err
}

// end ends the session when nothing is to be done again.
func (s *editSession) end() error {
	if !s.failed {
		s.file.remove()
		return nil
	}
	fmt.Fprintf(s.env.Stderr, "You can run `usher replace -f %s` to try this update again.\n", s.file.path)
	return exitCode(exitError)
}

// send sends the objects of the edited text that have changed. Those that are
// wrong become reasons.
func (s *editSession) send(ctx context.Context, edited []byte) error {
	documents, err := parseDocuments(edited)
	if err != nil {
		s.reasons = append(s.reasons, editReason{head: fmt.Sprintf("The edited file had a syntax error: %v", err)})
		return nil
	}
	for _, doc := range documents {
		if err := s.sendOne(ctx, doc); err != nil {
			return err
		}
	}
	return nil
}

func (s *editSession) sendOne(ctx context.Context, doc document) error {
	old, err := s.original(doc)
	if err != nil {
		return err
	}
	key := registry.KeyOf(old)
	if _, err := registry.DecodeStrict(key.Kind, doc.data); err != nil {
		s.refuse(key, apierrors.NewInvalid(key.Kind.GroupKind(), key.Name,
			field.ErrorList{field.Invalid(nil, "The edited file failed validation", err.Error())}))
		return nil
	}
	was, err := json.Marshal(old)
	if err != nil {
		return err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(was, doc.data, key.Kind.New())
	switch {
	case err != nil:
		return err
	case string(patch) == "{}":
		return s.say(old, "skipped")
	}
	options := client.PatchOptions{FieldManager: "usher-edit", Subresource: s.subresource}
	obj, err := s.client.Patch(ctx, key, types.StrategicMergePatchType, patch, options)
	if err != nil {
		s.refuse(key, err)
		return nil
	}
	return s.say(obj, "edited")
}

// original returns the object that a document was made of.
func (s *editSession) original(doc document) (registry.Object, error) {
	var head metav1.PartialObjectMetadata
	err := json.Unmarshal(doc.data, &head)
	i := slices.IndexFunc(s.objects, func(obj registry.Object) bool { return obj.GetUID() == head.UID })
	if err != nil || i < 0 {
		return nil, fmt.Errorf("no original object found for %s", shorten(doc.data))
	}
	old := registry.KeyOf(s.objects[i])
	if head.GroupVersionKind() != old.Kind.GroupVersionKind || head.Name != old.Name {
		return nil, errors.New("At least one of apiVersion, kind and name was changed")
	}
	if head.Namespace != old.Namespace {
		return nil, otherNamespace(head.Namespace, old.Namespace)
	}
	return s.objects[i], nil
}

// say tells what was done, or prints the object if that was asked for.
func (s *editSession) say(obj registry.Object, done string) error {
	if s.output != "" {
		return printObjects(s.env.Stdout, s.output, []registry.Object{obj}, true, false)
	}
	_, err := fmt.Fprintln(s.env.Stdout, objectName(registry.KeyOf(obj))+" "+done)
	return err
}

// refuse says that an object was refused. One that is invalid is opened again.
func (s *editSession) refuse(key registry.Key, err error) {
	name := fmt.Sprintf("%s %q", key.Kind.GroupResource(), key.Name)
	status, ok := errors.AsType[*apierrors.StatusError](err)
	switch {
	case ok && apierrors.IsInvalid(err):
		reason := editReason{head: name + " was not valid"}
		if status.ErrStatus.Details != nil {
			for _, cause := range status.ErrStatus.Details.Causes {
				reason.other = append(reason.other, cause.Field+": "+cause.Message)
			}
		}
		s.reasons = append(s.reasons, reason)
		fmt.Fprintf(s.env.Stderr, "error: %s is invalid\n", name)
	case apierrors.IsNotFound(err):
		s.failed = true
		fmt.Fprintf(s.env.Stderr, "error: %s could not be found on the server\n", name)
	default:
		s.failed = true
		fmt.Fprintf(s.env.Stderr, "error: %s could not be patched: %v\n", name, err)
	}
}

// sameContent reports whether two texts say the same, whatever their comments.
func sameContent(a, b []byte) bool { return bytes.Equal(contentOf(a), contentOf(b)) }

// contentOf returns a text as JSON, or without its comments if it is not YAML.
func contentOf(text []byte) []byte {
	if data, err := registry.ToJSON(text); err == nil {
		return data
	}
	return withoutComments(text)
}
