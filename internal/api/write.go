package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"usher/registry"
)

// write serves a request that changes the registry.
func (s *Server) write(w http.ResponseWriter, r *http.Request, t target, verb string, enc encoding) error {
	if s.opts.Writer == nil {
		return apierrors.NewServiceUnavailable("the registry cannot be written here")
	}
	switch verb {
	case "create":
		return s.create(w, r, t, enc)
	case "update":
		return s.update(w, r, t, enc)
	case "patch":
		return s.patch(w, r, t, enc)
	case "delete":
		return s.delete(w, r, t, enc)
	}
	return s.deleteCollection(w, r, t, enc)
}

// writer returns what makes a write, or everything of it but the write.
func (s *Server) writer(dryRun []string) *Writer {
	if len(dryRun) > 0 {
		return s.opts.Writer.DryRun()
	}
	return s.opts.Writer
}

func invalidOptions(kind string, errs field.ErrorList) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", errs)
}

func (s *Server) create(w http.ResponseWriter, r *http.Request, t target, enc encoding) error {
	var opts metav1.CreateOptions
	query := r.URL.Query()
	if err := metav1.Convert_url_Values_To_v1_CreateOptions(&query, &opts, nil); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if errs := metav1validation.ValidateCreateOptions(&opts); len(errs) > 0 {
		return invalidOptions("CreateOptions", errs)
	}
	validation := newFieldValidation(opts.FieldValidation)
	obj, err := readObject(w, r, t, validation)
	if err != nil {
		return err
	}
	writer := s.writer(opts.DryRun).As(manager(opts.FieldManager, r.UserAgent()))
	if obj, err = writer.Create(r.Context(), obj); err != nil {
		return err
	}
	noted(w).warn(validation.warnings...)
	noted(w).warn(registry.Warnings(obj, true)...)
	return s.answerObject(w, r, enc, http.StatusCreated, obj)
}

func (s *Server) update(w http.ResponseWriter, r *http.Request, t target, enc encoding) error {
	var opts metav1.UpdateOptions
	query := r.URL.Query()
	if err := metav1.Convert_url_Values_To_v1_UpdateOptions(&query, &opts, nil); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if errs := metav1validation.ValidateUpdateOptions(&opts); len(errs) > 0 {
		return invalidOptions("UpdateOptions", errs)
	}
	validation := newFieldValidation(opts.FieldValidation)
	obj, err := readObject(w, r, t, validation)
	if err != nil {
		return err
	}
	if err := t.checkNames(obj); err != nil {
		return err
	}
	writer := s.writer(opts.DryRun).As(manager(opts.FieldManager, r.UserAgent()))
	wanted := obj
	obj, err = writer.Change(r.Context(), t.key(), t.subresource, func(registry.Object) (registry.Object, error) {
		return wanted.DeepCopyObject().(registry.Object), nil
	})
	if err != nil {
		return err
	}
	noted(w).warn(validation.warnings...)
	if t.subresource == "" {
		noted(w).warn(registry.Warnings(obj, false)...)
	}
	return s.answerObject(w, r, enc, http.StatusOK, obj)
}

// delete answers with a Status when the object is gone, and with the object
// while it terminates.
func (s *Server) delete(w http.ResponseWriter, r *http.Request, t target, enc encoding) error {
	opts, err := readDeleteOptions(w, r)
	if err != nil {
		return err
	}
	obj, gone, err := s.writer(opts.DryRun).Delete(r.Context(), t.key(), opts)
	if err != nil {
		return err
	}
	if !gone {
		return s.answerObject(w, r, enc, http.StatusOK, obj)
	}
	enc.table = false
	return answer(w, enc, http.StatusOK, success(metav1.StatusDetails{
		Name: obj.GetName(), Group: t.kind.Group, Kind: t.kind.Resource, UID: obj.GetUID(),
	}))
}

// success is the answer to what has no better one.
func success(details metav1.StatusDetails) metav1.Status {
	return metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusSuccess, Details: &details,
	}
}

// deleteCollection deletes the objects of a selection one by one, and answers
// with the list of them.
func (s *Server) deleteCollection(w http.ResponseWriter, r *http.Request, t target, enc encoding) error {
	sel, _, err := parseOptions(t, r.URL.Query())
	if err != nil {
		return err
	}
	opts, err := readDeleteOptions(w, r)
	if err != nil {
		return err
	}
	snapshot, err := s.snapshot(r.Context(), 0)
	if err != nil {
		return err
	}
	deleted, err := s.deleteAll(r.Context(), sel.objects(snapshot), opts)
	if err != nil {
		return err
	}
	enc.table = false
	return answer(w, enc, http.StatusOK, newList(t.kind, listMeta(s.opts.Store.Snapshot()), deleted))
}

func (s *Server) deleteAll(ctx context.Context, objects []registry.Object, opts metav1.DeleteOptions) ([]registry.Object, error) {
	var deleted []registry.Object
	for _, obj := range objects {
		if registry.IsDerived(obj) {
			continue // it goes with what it is derived from
		}
		obj, _, err := s.writer(opts.DryRun).Delete(ctx, registry.KeyOf(obj), opts)
		switch {
		case apierrors.IsNotFound(err): // somebody else was faster
		case err != nil:
			return nil, err
		default:
			deleted = append(deleted, obj)
		}
	}
	return deleted, nil
}

// readObject reads the object that the body of a request is, and places it in
// the namespace of the URL.
func readObject(w http.ResponseWriter, r *http.Request, t target, validation *fieldValidation) (registry.Object, error) {
	body, err := readBody(w, r, t.kind.Kind)
	if err != nil {
		return nil, err
	}
	obj, err := registry.DecodeFunc(t.kind, body, validation.judge)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	noted(w).object = obj.GetName()
	switch obj.GetNamespace() {
	case t.namespace:
	case "":
		obj.SetNamespace(t.namespace)
	default:
		if !t.kind.Namespaced {
			obj.SetNamespace("")
			break
		}
		return nil, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return obj, nil
}

// readBody reads the body of a request, a document of that kind, as JSON. It
// returns nothing for a request without one.
func readBody(w http.ResponseWriter, r *http.Request, kind string) ([]byte, error) {
	body, err := readBytes(w, r)
	if err != nil || len(body) == 0 {
		return nil, err
	}
	document, err := decodeJSON(r.Header.Get("Content-Type"), body)
	if err != nil && !errors.As(err, new(apierrors.APIStatus)) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf(
			"the object provided is unrecognized (must be of type %s): couldn't get version/kind; parse error: %v", kind, err))
	}
	return document, err
}

// readBytes reads the body of a request as it is.
func readBytes(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyLimit))
	if err != nil && !errors.As(err, new(*http.MaxBytesError)) {
		err = apierrors.NewBadRequest(fmt.Sprintf("read the body: %v", err))
	}
	return body, err
}

// readDeleteOptions reads them from the body or, without one, from the query.
func readDeleteOptions(w http.ResponseWriter, r *http.Request) (metav1.DeleteOptions, error) {
	var opts metav1.DeleteOptions
	body, err := readBody(w, r, "DeleteOptions")
	if err != nil {
		return opts, err
	}
	if len(body) > 0 {
		if err := yaml.UnmarshalStrict(body, &opts); err != nil {
			return opts, apierrors.NewBadRequest(fmt.Sprintf("decode DeleteOptions: %v", err))
		}
		if opts.Kind != "" && opts.Kind != "DeleteOptions" {
			return opts, apierrors.NewBadRequest(fmt.Sprintf("the body of a deletion must be DeleteOptions, not %s", opts.Kind))
		}
	} else {
		query := r.URL.Query()
		if err := metav1.Convert_url_Values_To_v1_DeleteOptions(&query, &opts, nil); err != nil {
			return opts, apierrors.NewBadRequest(err.Error())
		}
	}
	noted(w).dryRun = len(opts.DryRun) > 0
	if errs := metav1validation.ValidateDeleteOptions(&opts); len(errs) > 0 {
		return opts, invalidOptions("DeleteOptions", errs)
	}
	return opts, nil
}

// refuseDryRun refuses what would otherwise be done in earnest: a lease that
// is not granted has no name.
func refuseDryRun(dryRun []string) error {
	if strings.Join(dryRun, "") != "" {
		return apierrors.NewBadRequest("dryRun is not supported for leases")
	}
	return nil
}
