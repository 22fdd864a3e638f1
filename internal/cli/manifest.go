package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"usher/registry"
)

// A manifest is an object out of a file.
type manifest struct {
	source   string // as errors name it
	object   registry.Object
	document []byte // as JSON: the object without what the file does not say
}

// readManifests reads the files, and checks every object as the API would.
// When anything is wrong it returns all that is, and no manifests: nothing is
// to be half applied.
func (g *globals) readManifests(files files, verb string) ([]manifest, error) {
	var manifests []manifest
	err := g.eachDocument(files, func(source string, doc document) error {
		obj, err := g.decode(source, doc)
		if err != nil {
			return manifestError{verb, source, err}
		}
		manifests = append(manifests, manifest{source, obj, doc.data})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return manifests, nil
}

// readKeys reads which objects the files are about, whatever else they say of
// them.
func (g *globals) readKeys(files files, verb string) ([]registry.Key, error) {
	var keys []registry.Key
	err := g.eachDocument(files, func(source string, doc document) error {
		kind, meta, err := identify(source, doc)
		if err == nil && meta.Name == "" {
			err = errors.New("resource name may not be empty")
		}
		if err == nil && kind.Namespaced {
			meta.Namespace, err = g.place(meta.Namespace)
		}
		if err != nil {
			return manifestError{verb, source, err}
		}
		key := g.key(kind, meta.Name)
		if kind.Namespaced {
			key.Namespace = meta.Namespace
		}
		keys = append(keys, key)
		return nil
	})
	return keys, err
}

// eachDocument calls f with each document of the files and what errors are to
// call it. It joins the errors.
func (g *globals) eachDocument(files files, f func(source string, doc document) error) error {
	paths, err := files.expand()
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range paths {
		source := path
		if path == "-" {
			source = "STDIN"
		}
		data, err := readFile(path, g.env.Stdin)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		documents, err := parseDocuments(data)
		if err != nil {
			errs = append(errs, fmt.Errorf("error parsing %s: %w", source, err))
		}
		for _, doc := range documents {
			where := fmt.Sprintf("%q", source)
			if doc.place != "" {
				where += " (" + doc.place + ")"
			}
			errs = append(errs, f(where, doc))
		}
	}
	return errors.Join(errs...)
}

// identify reads what a document is about. Its error is one that the API gives
// where the API has one. What else is wrong, decoding says better.
func identify(source string, doc document) (*registry.Kind, metav1.ObjectMeta, error) {
	var head struct {
		metav1.TypeMeta
		Metadata struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(doc.data, &head); err != nil && doc.data[0] != '{' {
		return nil, metav1.ObjectMeta{}, apierrors.NewBadRequest(fmt.Sprintf("'%s' is not an object", shorten(doc.data)))
	}
	meta := metav1.ObjectMeta{Name: head.Metadata.Name, Namespace: head.Metadata.Namespace}
	for _, field := range []struct{ name, value string }{{"Kind", head.Kind}, {"apiVersion", head.APIVersion}} {
		if field.value == "" {
			return nil, meta, apierrors.NewBadRequest(fmt.Sprintf("Object '%s' is missing in '%s'", field.name, shorten(doc.data)))
		}
	}
	if kind := registry.KindFor(head.GroupVersionKind()); kind != nil {
		return kind, meta, nil
	}
	var known []string
	for _, k := range registry.Kinds {
		known = append(known, k.Kind)
	}
	return nil, meta, fmt.Errorf("resource mapping not found for name: %q namespace: %q from %s: no matches for kind %q in version %q\n  usher has: %s",
		meta.Name, meta.Namespace, source, head.Kind, head.APIVersion, strings.Join(known, ", "))
}

// shorten returns the beginning of a document, to recognise it by.
func shorten(data []byte) string {
	const length = 120
	if len(data) <= length {
		return string(data)
	}
	return strings.ToValidUTF8(string(data[:length]), "") + "..."
}

// decode reads a document and checks it. Errors are those that the API gives.
func (g *globals) decode(source string, doc document) (registry.Object, error) {
	kind, _, err := identify(source, doc)
	if err != nil {
		return nil, err
	}
	obj, err := registry.DecodeStrict(kind, doc.data)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if kind.Namespaced {
		namespace, err := g.place(obj.GetNamespace())
		if err != nil {
			return nil, err
		}
		obj.SetNamespace(namespace)
	}
	if errs := check(obj); len(errs) > 0 {
		return nil, apierrors.NewInvalid(kind.GroupVersionKind.GroupKind(), obj.GetName(), errs)
	}
	return obj, nil
}

// place returns the namespace of an object that asks for one: that of the
// request, unless it has one of its own.
func (g *globals) place(namespace string) (string, error) {
	switch {
	case namespace == "":
		return g.requestNamespace(), nil
	case g.namespace != "" && g.namespace != namespace:
		return "", otherNamespace(namespace, g.namespace)
	}
	return namespace, nil
}

// otherNamespace refuses an object that is in another namespace than it has to
// be.
func otherNamespace(is, want string) error {
	return fmt.Errorf("the namespace from the provided object %q does not match the namespace %q. "+
		"You must pass '--namespace=%s' to perform this operation.", is, want, is)
}

// check validates a copy of obj as the API will. What only the API knows, such
// as which IP families there are, is left to it.
func check(obj registry.Object) field.ErrorList {
	obj = obj.DeepCopyObject().(registry.Object)
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		obj.SetName(obj.GetGenerateName() + "xxxxx")
	}
	registry.SetDefaults(obj)
	if svc, ok := obj.(*corev1.Service); ok && svc.Spec.ClusterIP != "" && len(svc.Spec.ClusterIPs) == 0 {
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	}
	return registry.Validate(obj)
}

func readFile(path string, stdin io.Reader) ([]byte, error) {
	if path != "-" {
		return os.ReadFile(path)
	}
	data, err := io.ReadAll(stdin)
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	return data, nil
}
