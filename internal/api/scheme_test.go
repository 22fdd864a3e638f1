package api

import (
	"bytes"
	"net/http"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"usher/registry"
)

// toProtobuf is the reverse of fromProtobuf.
func toProtobuf(t testing.TB, obj runtime.Object) string {
	t.Helper()
	var out bytes.Buffer
	if err := protobuf.NewSerializer(scheme(), scheme()).Encode(obj, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestProtobuf writes as kubectl create service does.
func TestProtobuf(t *testing.T) {
	h := newRegistryServer(t).Handler()
	const services = "/api/v1/namespaces/finance/services"
	svc := registry.Services.New().(*corev1.Service)
	svc.Name = "pay"
	svc.Spec.Ports = []corev1.ServicePort{{Port: 80}}
	got := ask(t, h, "POST", services+"?fieldValidation=Strict", toProtobuf(t, svc), "Content-Type", mediaProtobuf, "Accept", mediaProtobuf+","+mediaJSON)
	made := decode[corev1.Service](t, got.body)
	if got.code != http.StatusCreated || made.Spec.Ports[0].Port != 80 || made.Kind != "Service" || made.CreationTimestamp.IsZero() {
		t.Fatalf("%d %s", got.code, got.body)
	}
	svc.Spec.Ports[0].Port = 0
	if got := ask(t, h, "PUT", services+"/pay", toProtobuf(t, svc), "Content-Type", mediaProtobuf); got.code != http.StatusUnprocessableEntity {
		t.Errorf("invalid: %d %s", got.code, got.body)
	}
	other := &metav1.DeleteOptions{TypeMeta: metav1.TypeMeta{Kind: "DeleteOptions", APIVersion: "v1"}, Preconditions: &metav1.Preconditions{UID: new(made.UID + "x")}}
	if got := ask(t, h, "DELETE", services+"/pay", toProtobuf(t, other), "Content-Type", mediaProtobuf); got.code != http.StatusConflict {
		t.Errorf("delete another: %d %s", got.code, got.body)
	}
	if got := ask(t, h, "POST", services, toProtobuf(t, other), "Content-Type", mediaProtobuf); got.code != http.StatusBadRequest {
		t.Errorf("create options: %d %s", got.code, got.body)
	}
}

func FuzzFromProtobuf(f *testing.F) {
	svc := registry.Services.New()
	svc.SetName("pay")
	f.Add([]byte(toProtobuf(f, svc)))
	f.Add([]byte("k8s\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		document, err := fromProtobuf(body)
		if err != nil {
			return
		}
		registry.DecodeStrict(registry.Services, document)
	})
}
