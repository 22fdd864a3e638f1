package api

import (
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"usher/registry"
)

// patchTypes are the content types of a patch.
var patchTypes = []string{
	string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType), string(types.ApplyYAMLPatchType),
}

// patch changes an object by what the body of a request says of it.
func (s *Server) patch(w http.ResponseWriter, r *http.Request, t target, enc encoding) error {
	var opts metav1.PatchOptions
	query := r.URL.Query()
	if err := metav1.Convert_url_Values_To_v1_PatchOptions(&query, &opts, nil); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(patchTypes, media) {
		return unsupportedMedia(patchTypes...)
	}
	if errs := metav1validation.ValidatePatchOptions(&opts, types.PatchType(media)); len(errs) > 0 {
		return invalidOptions("PatchOptions", errs)
	}
	body, err := readBytes(w, r)
	if err != nil {
		return err
	}
	writer := s.writer(opts.DryRun).As(manager(opts.FieldManager, r.UserAgent()))
	validation := newFieldValidation(opts.FieldValidation)
	var obj registry.Object
	code := http.StatusOK
	if types.PatchType(media) == types.ApplyYAMLPatchType {
		var applied *unstructured.Unstructured
		if applied, err = readApplied(body, t, validation); err != nil {
			return err
		}
		var created bool
		obj, created, err = writer.Apply(r.Context(), t.key(), t.subresource, applied, opts.Force != nil && *opts.Force)
		if created {
			code = http.StatusCreated
		}
	} else {
		obj, err = writer.Change(r.Context(), t.key(), t.subresource, func(old registry.Object) (registry.Object, error) {
			validation.reset() // Change may try again
			obj, err := patched(old, types.PatchType(media), body, validation)
			if err != nil {
				return nil, err
			}
			return obj, t.checkNames(obj)
		})
	}
	if err != nil {
		return err
	}
	noted(w).warn(validation.warnings...)
	if t.subresource == "" {
		noted(w).warn(registry.Warnings(obj, code == http.StatusCreated)...)
	}
	return s.answerObject(w, r, enc, code, obj)
}

// manager returns who makes a write: what the client calls itself, or else its
// program.
func manager(field, userAgent string) string {
	if field != "" {
		return field
	}
	const longest = 128 // of a fieldManager
	program, _, _ := strings.Cut(userAgent, "/")
	if program = strings.ToValidUTF8(program, ""); len(program) > longest {
		program = strings.ToValidUTF8(program[:longest], "")
	}
	if program == "" {
		return "unknown"
	}
	return program
}

// readApplied reads an applied configuration, which is YAML or JSON.
func readApplied(body []byte, t target, validation *fieldValidation) (*unstructured.Unstructured, error) {
	decode := yaml.Unmarshal
	if validation.strict() {
		decode = func(data []byte, v any, opts ...yaml.JSONOpt) error { return yaml.UnmarshalStrict(data, v, opts...) }
	}
	obj := &unstructured.Unstructured{Object: make(map[string]any)}
	if err := decode(body, &obj.Object); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	gvk := obj.GroupVersionKind()
	if gvk.Kind != t.kind.Kind || gvk.Group != t.kind.Group {
		return nil, apierrors.NewBadRequest(fmt.Sprintf(
			"the kind of the applied configuration is %q of group %q, not %q of group %q", gvk.Kind, gvk.Group, t.kind.Kind, t.kind.Group))
	}
	if obj.GetName() == "" {
		obj.SetName(t.name)
	}
	if t.kind.Namespaced && obj.GetNamespace() == "" {
		obj.SetNamespace(t.namespace)
	}
	return obj, t.checkNames(obj)
}

// checkNames refuses an object that is not the one that the URL names.
func (t target) checkNames(obj metav1.Object) error {
	if obj.GetName() != t.name {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), t.name))
	}
	if obj.GetNamespace() != t.namespace {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the namespace of the object (%s) does not match the namespace on the request (%s)", obj.GetNamespace(), t.namespace))
	}
	return nil
}
