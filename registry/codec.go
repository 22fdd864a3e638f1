package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	yamlv3 "go.yaml.in/yaml/v3"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Encode writes obj as it is kept in etcd: JSON without the resourceVersion,
// which is the revision of its key there.
func Encode(obj Object) ([]byte, error) {
	kept := obj.DeepCopyObject().(Object)
	kept.SetResourceVersion("")
	kept.GetObjectKind().SetGroupVersionKind(KindOf(obj).GroupVersionKind)
	value, err := json.Marshal(kept)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", KeyOf(obj), err)
	}
	return value, nil
}

// Decode reads the value of key at an etcd revision. A value that is not a
// valid object of that key yields an error, never a panic. Fields that this
// version does not know are ignored: a newer one may have written them.
func Decode(key Key, value []byte, revision int64) (obj Object, err error) {
	defer func() {
		if r := recover(); r != nil {
			obj, err = nil, fmt.Errorf("decode %s: panic: %v", key, r)
		}
	}()
	obj = key.Kind.New()
	if err := kjson.UnmarshalCaseSensitivePreserveInts(value, obj); err != nil {
		return nil, fmt.Errorf("decode %s: %w", key, err)
	}
	if gvk := obj.GetObjectKind().GroupVersionKind(); gvk != key.Kind.GroupVersionKind {
		return nil, fmt.Errorf("decode %s: the value is a %s", key, gvk)
	}
	if got := KeyOf(obj); got != key {
		return nil, fmt.Errorf("decode %s: the value names itself %s", key, got)
	}
	if errs := Validate(obj); len(errs) > 0 {
		return nil, fmt.Errorf("decode %s: %w", key, errs.ToAggregate())
	}
	obj.SetResourceVersion(strconv.FormatInt(revision, 10))
	if s, ok := obj.(*discoveryv1.EndpointSlice); ok {
		s.Endpoints = slices.Clone(s.Endpoints) // it was grown by doubling, and is kept
	}
	return obj, nil
}

// DecodeStrict reads an object of kind k from a JSON or YAML document. Unknown
// and duplicate fields are errors, all reported at once, in the words of
// Kubernetes' API server. A document may leave its kind out.
func DecodeStrict(k *Kind, document []byte) (Object, error) {
	return DecodeFunc(k, document, func(strict []error) error {
		if len(strict) == 0 {
			return nil
		}
		return runtime.NewStrictDecodingError(strict)
	})
}

// DecodeFunc is DecodeStrict, but that judge is asked what to do about unknown
// and duplicate fields: an error of its own ends the decoding.
func DecodeFunc(k *Kind, document []byte, judge func(strict []error) error) (Object, error) {
	wrong := func(err error) error {
		return fmt.Errorf("%s in version %q cannot be handled as a %s: %w", k.Kind, k.GroupVersion(), k.Kind, err)
	}
	data, err := ToJSON(document)
	if err != nil {
		return nil, wrong(err)
	}
	if string(data) == "null" {
		return nil, wrong(errors.New("the document is empty"))
	}
	var meta metav1.TypeMeta
	if err := json.Unmarshal(data, &meta); err != nil {
		return nil, wrong(err)
	}
	if gvk := meta.GroupVersionKind(); !gvk.Empty() && gvk != k.GroupVersionKind {
		return nil, fmt.Errorf("%s in version %q cannot be handled as a %s in version %q",
			meta.Kind, meta.APIVersion, k.Kind, k.GroupVersion())
	}
	obj := k.New()
	strict, err := kjson.UnmarshalStrict(data, obj)
	if err != nil {
		return nil, wrong(err)
	}
	if err := judge(strict); err != nil {
		return nil, wrong(err)
	}
	obj.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
	return obj, nil
}

// ToJSON returns a JSON or YAML document as JSON. More than one document is an
// error, and so are keys that are there twice. What is JSON already stays as
// it is: YAML does not know all of JSON's escapes.
func ToJSON(document []byte) ([]byte, error) {
	if json.Valid(document) {
		return document, nil
	}
	// The conversion reads the first document and ignores what follows it.
	decoder := yamlv3.NewDecoder(bytes.NewReader(document))
	var first, more yamlv3.Node
	if err := decoder.Decode(&first); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch err := decoder.Decode(&more); {
	case err == nil:
		return nil, errors.New("there is more than one document")
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return yaml.YAMLToJSONStrict(document)
}
