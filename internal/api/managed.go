package api

import (
	"errors"
	"fmt"
	"sync"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"usher/internal/openapi"
	"usher/registry"
)

// A managedPart is what has a field manager of its own: a Kind, or its status.
type managedPart struct {
	kind        *registry.Kind
	subresource string
}

// fieldManagers keep account, in metadata.managedFields, of who has set which
// field (KEP-555). They are made on first use, since it takes a while to make
// all schemas.
var fieldManagers = sync.OnceValues(func() (map[managedPart]*managedfields.FieldManager, error) {
	types, err := managedfields.NewTypeConverter(openapi.Definitions(), false)
	if err != nil {
		return nil, fmt.Errorf("read the schemas: %w", err)
	}
	managers := make(map[managedPart]*managedfields.FieldManager)
	for _, k := range registry.Kinds {
		parts := []managedPart{{k, ""}}
		if k.HasStatus {
			parts = append(parts, managedPart{k, "status"})
		}
		for _, part := range parts {
			managers[part], err = managedfields.NewDefaultFieldManager(types, scheme(), defaulter{}, scheme(),
				k.GroupVersionKind, k.GroupVersion(), part.subresource, part.ignored())
			if err != nil {
				return nil, fmt.Errorf("the fields of %s: %w", k.Resource, err)
			}
		}
	}
	return managers, nil
})

// ignored returns the fields that a write of the part does not touch, whatever
// it says of them: nobody becomes their owner by it.
func (p managedPart) ignored() map[fieldpath.APIVersion]fieldpath.Filter {
	set := fieldpath.NewSet(fieldpath.MakePathOrDie("status"))
	switch {
	case p.subresource == "status" && p.kind == registry.Pods:
		set = fieldpath.NewSet(fieldpath.MakePathOrDie("spec"), fieldpath.MakePathOrDie("metadata", "ownerReferences"))
	case p.subresource == "status":
		set = fieldpath.NewSet(fieldpath.MakePathOrDie("spec"))
	case !p.kind.HasStatus:
		return nil
	}
	return map[fieldpath.APIVersion]fieldpath.Filter{
		fieldpath.APIVersion(p.kind.GroupVersion().String()): fieldpath.NewExcludeSetFilter(set),
	}
}

// As returns a Writer whose writes make manager the owner of what they set. A
// Writer without one leaves the account of owners as it is.
func (w *Writer) As(manager string) *Writer {
	as := *w
	as.manager = manager
	return &as
}

// own enters into obj, which is to replace live, who owns its fields.
func (w *Writer) own(live, obj registry.Object, subresource string) error {
	if w.manager == "" {
		obj.SetManagedFields(live.GetManagedFields())
		return nil
	}
	managers, err := fieldManagers()
	if err != nil {
		return err
	}
	kind := registry.KindOf(obj)
	obj.GetObjectKind().SetGroupVersionKind(kind.GroupVersionKind)
	owned := managers[managedPart{kind, subresource}].UpdateNoErrors(live, obj, w.manager)
	obj.SetManagedFields(owned.(registry.Object).GetManagedFields())
	return nil
}

// CommandLine is the manager of what usher's own commands set. What `usher
// create` or `replace` made, `usher apply` may take away again: to its user
// that is one and the same program.
const CommandLine = "usher"

// merge returns live with an applied configuration merged into it. Unless
// force is set, a field that somebody else owns is a conflict, 409.
func (w *Writer) merge(live registry.Object, applied *unstructured.Unstructured, subresource string, force bool) (registry.Object, error) {
	managers, err := fieldManagers()
	if err != nil {
		return nil, err
	}
	kind := registry.KindOf(live)
	live = live.DeepCopyObject().(registry.Object)
	if w.manager == CommandLine {
		if err := csaupgrade.UpgradeManagedFields(live, sets.New(CommandLine), CommandLine, csaupgrade.Subresource(subresource)); err != nil {
			return nil, err
		}
	}
	merged, err := managers[managedPart{kind, subresource}].Apply(live, applied.DeepCopy(), w.manager, force)
	if err != nil {
		if !errors.As(err, new(apierrors.APIStatus)) {
			err = apierrors.NewBadRequest(err.Error()) // it does not fit the schema
		}
		return nil, err
	}
	obj, ok := merged.(registry.Object)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("merging %s made a %T", kind.Kind, merged))
	}
	return obj, nil
}

// changed reports whether obj differs from old in more than when its owners
// last said so.
func changed(obj, old registry.Object) bool {
	was, is := old.GetManagedFields(), obj.GetManagedFields()
	if len(was) == len(is) {
		obj = obj.DeepCopyObject().(registry.Object)
		is = obj.GetManagedFields()
		for i := range is {
			is[i].Time = was[i].Time
		}
		obj.SetManagedFields(is)
	}
	return !apiequality.Semantic.DeepEqual(obj, old)
}
