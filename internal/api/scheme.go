package api

import (
	"encoding/json"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"usher/registry"
)

// scheme knows the registry's Kinds, and what else comes in a body:
// apimachinery's codecs and field managers find their Go types in it.
var scheme = sync.OnceValue(newScheme)

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, k := range registry.Kinds {
		s.AddKnownTypeWithName(k.GroupVersionKind, k.New())
		metav1.AddToGroupVersion(s, k.GroupVersion()) // DeleteOptions
	}
	for _, v := range reviews {
		s.AddKnownTypeWithName(v.GroupVersionKind, v.new())
	}
	return s
}

// fromProtobuf returns a body in Kubernetes' protobuf encoding as JSON. kubectl
// has it for what it makes itself, and tries nothing else when it is refused.
func fromProtobuf(body []byte) ([]byte, error) {
	obj, gvk, err := protobuf.NewSerializer(scheme(), scheme()).Decode(body, nil, nil)
	if err != nil {
		return nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(*gvk)
	return json.Marshal(obj)
}

// defaulter implements runtime.ObjectDefaulter.
type defaulter struct{}

func (defaulter) Default(obj runtime.Object) {
	if obj, ok := obj.(registry.Object); ok {
		registry.SetDefaults(obj)
	}
}
