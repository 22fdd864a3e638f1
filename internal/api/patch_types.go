package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"usher/registry"
)

// maxOperations bounds the operations of a JSON patch, as Kubernetes does.
const maxOperations = 10000

// Each copy in a JSON patch may double the document, so that some bytes of
// patch would fill the memory (CVE-2019-1002100): what they copy is bounded.
func init() { jsonpatch.AccumulatedCopySizeLimit = bodyLimit }

// patched returns what patch makes of old. Its errors are in the words of
// Kubernetes' API server.
func patched(old registry.Object, typ types.PatchType, patch []byte, validation *fieldValidation) (registry.Object, error) {
	before, err := json.Marshal(old)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	after, shown, err := patchJSON(old, before, typ, patch)
	if err != nil {
		return nil, err
	}
	kind := registry.KindOf(old)
	obj := kind.New()
	strict, err := kjson.UnmarshalStrict(after, obj)
	if err == nil {
		err = validation.judge(strict)
	}
	if err != nil {
		return nil, apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{
			field.Invalid(field.NewPath("patch"), shown, err.Error()),
		})
	}
	if gvk := obj.GetObjectKind().GroupVersionKind(); gvk != kind.GroupVersionKind {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s in version %q",
			gvk.Kind, gvk.GroupVersion(), kind.Kind, kind.GroupVersion()))
	}
	return obj, nil
}

// patchJSON returns a document after a patch, and what errors show of it.
func patchJSON(old registry.Object, before []byte, typ types.PatchType, patch []byte) (after []byte, shown string, err error) {
	switch typ {
	case types.JSONPatchType:
		after, err = jsonPatch(before, patch)
		return after, string(after), err
	case types.MergePatchType:
		if after, err = jsonpatch.MergePatch(before, patch); err != nil {
			return nil, "", apierrors.NewBadRequest(err.Error())
		}
		return after, string(after), nil
	}
	var document, changes map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(before, &document); err != nil {
		return nil, "", apierrors.NewInternalError(err)
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(patch, &changes); err != nil {
		return nil, "", apierrors.NewBadRequest(err.Error())
	}
	shown = fmt.Sprintf("%+v", changes)
	meta, err := strategicpatch.NewPatchMetaFromStruct(old)
	if err != nil {
		return nil, "", apierrors.NewInternalError(err)
	}
	if document, err = strategicpatch.StrategicMergeMapPatchUsingLookupPatchMeta(document, changes, meta); err != nil {
		return nil, "", strategicError(err)
	}
	after, err = json.Marshal(document)
	return after, shown, err
}

// jsonPatch applies a patch of RFC 6902.
func jsonPatch(before, patch []byte) ([]byte, error) {
	operations, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if n := len(operations); n > maxOperations {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf(
			"The allowed maximum operations in a JSON patch is %d, got %d", maxOperations, n))
	}
	after, err := operations.Apply(before)
	if err != nil {
		return nil, unprocessable(err)
	}
	return after, nil
}

// strategicError says what is wrong with a strategic merge patch.
func strategicError(err error) error {
	for _, bad := range []error{
		mergepatch.ErrBadJSONDoc, mergepatch.ErrBadPatchFormatForPrimitiveList, mergepatch.ErrBadPatchFormatForRetainKeys,
		mergepatch.ErrBadPatchFormatForSetElementOrderList, mergepatch.ErrUnsupportedStrategicMergePatchFormat,
	} {
		if errors.Is(err, bad) {
			return apierrors.NewBadRequest(err.Error())
		}
	}
	return unprocessable(err)
}

func unprocessable(err error) error {
	return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
}

// fieldValidation is what a client wants to be done about fields that there
// are not, and about those given twice (KEP-2885).
type fieldValidation struct {
	directive string
	warnings  []string
}

func newFieldValidation(directive string) *fieldValidation {
	if directive == "" {
		directive = "Warn"
	}
	return &fieldValidation{directive: directive}
}

func (v *fieldValidation) strict() bool { return v.directive == "Strict" }

func (v *fieldValidation) reset() { v.warnings = nil }

// judge takes what a strict decoder found. It returns an error where the
// client wants one.
func (v *fieldValidation) judge(found []error) error {
	switch {
	case len(found) == 0 || v.directive == "Ignore":
	case v.strict():
		return runtime.NewStrictDecodingError(found)
	default:
		for _, err := range found {
			v.warnings = append(v.warnings, err.Error())
		}
	}
	return nil
}
