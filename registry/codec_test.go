package registry

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
)

func TestEncodeDecode(t *testing.T) {
	for _, obj := range objects(t, 7, payment+"\n---\n"+pod("a", "10.1.0.5", "")) {
		value, err := Encode(obj)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(value), "resourceVersion") {
			t.Errorf("the revision is in the value: %s", value)
		}
		got, err := Decode(KeyOf(obj), value, 7)
		if err != nil {
			t.Fatal(err)
		}
		if !apiequality.Semantic.DeepEqual(obj, got) {
			t.Errorf("decoded (-want +got):\n%s", cmp.Diff(obj, got))
		}
	}
}

func TestDecodeGarbage(t *testing.T) {
	const good = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"b"},
		"spec":{"type":"ClusterIP","sessionAffinity":"None","internalTrafficPolicy":"Cluster",
		"ports":[{"port":80,"protocol":"TCP","targetPort":80}]}}`
	tests := []struct{ name, value, want string }{
		{"good", good, ""},
		{"a newer version's field", strings.Replace(good, `"spec":{`, `"spec":{"newField":1,`, 1), ""},
		{"empty", "", "unexpected end of JSON input"},
		{"not JSON", "\x00\xffgarbage", "invalid character"},
		{"null", "null", `the value names itself`},
		{"array", "[]", "cannot unmarshal array"},
		{"other kind", strings.Replace(good, `"Service"`, `"Pod"`, 1), "the value is a /v1, Kind=Pod"},
		{"other name", strings.Replace(good, `"name":"a"`, `"name":"x"`, 1), "the value names itself /usher/registry/services/b/x"},
		{"wrong type", strings.Replace(good, `"port":80`, `"port":"80"`, 1), "cannot unmarshal string"},
		{"bad port", strings.Replace(good, `"port":80`, `"port":99999`, 1), "spec.ports[0].port: Invalid value"},
		{"bad address", strings.Replace(good, `"spec":{`, `"spec":{"clusterIP":"banana","clusterIPs":["banana"],`, 1), "must be a valid IP address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode(Key{Services, "b", "a"}, []byte(tt.value), 1)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

// TestDecodeStrict has the errors that Kubernetes' API server gives.
func TestDecodeStrict(t *testing.T) {
	const prefix = `Service in version "v1" cannot be handled as a Service: `
	tests := []struct{ name, document, want string }{
		{"yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a}", ""},
		{"json", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"}}`, ""},
		{"no kind", "metadata: {name: a}", ""},
		{"unknown fields, all at once", "spec: {portz: [], ports: [{port: 80, prot: x}]}",
			prefix + `strict decoding error: unknown field "spec.ports[0].prot", unknown field "spec.portz"`},
		{"duplicate key", "spec: {type: ClusterIP, type: NodePort}", prefix + `yaml: unmarshal errors:`},
		{"wrong type", "spec: {ports: [{port: eighty}]}",
			prefix + `json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32`},
		{"other case", "spec: {clusterip: None}", prefix + `strict decoding error: unknown field "spec.clusterip"`},
		{"other kind", "apiVersion: v1\nkind: Pod", `Pod in version "v1" cannot be handled as a Service in version "v1"`},
		{"a scalar", "just text", prefix + "json: cannot unmarshal string into Go value of type"},
		{"JSON's own escapes", `{"metadata":{"name":"a","annotations":{"x":"\ud83d\ude00"}}}`, ""},
		{"flow style", "{metadata: {name: a}}", ""},
		{"two documents", "metadata: {name: a}\n---\nmetadata: {name: b}", prefix + "there is more than one document"},
		{"a leading separator", "---\nmetadata: {name: a}\n", ""},
		{"empty", "", prefix + "the document is empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			obj, err := DecodeStrict(Services, []byte(tt.document))
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want == "" && obj.GetName() != "a":
				t.Errorf("name %q", obj.GetName())
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
				t.Errorf("error %v,\nwant %s", err, tt.want)
			}
		})
	}
}

func TestParseKey(t *testing.T) {
	for _, k := range []Key{{Services, "finance", "payment"}, {IPAddresses, "", "10.96.0.1"}, {Namespaces, "", "finance"}} {
		if got, ok := ParseKey(k.String()); !ok || got != k {
			t.Errorf("ParseKey(%s) = %v, %t", k, got, ok)
		}
	}
	for _, s := range []string{"", "/usher/registry/", "/usher/registry/services/a", "/usher/registry/services/a/b/c",
		"/usher/registry/services//b", "/usher/registry/widgets/a/b", "/other/services/a/b", "/usher/registry/namespaces/a/b"} {
		if got, ok := ParseKey(s); ok {
			t.Errorf("ParseKey(%q) = %v", s, got)
		}
	}
}

// FuzzDecode checks that no value of any key does harm, and that what is taken
// can be kept in a Store.
func FuzzDecode(f *testing.F) {
	for _, obj := range objects(f, 1, payment+"\n---\n"+pod("a", "10.1.0.5", "")) {
		value, _ := Encode(obj)
		f.Add(KeyOf(obj).String(), value)
	}
	f.Add("/usher/registry/endpointslices/a/b", []byte(`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"b","namespace":"a","labels":{"kubernetes.io/service-name":"s"}},"addressType":"IPv4","endpoints":[{"addresses":["127.0.0.1"]}],"ports":[{"port":1,"protocol":"TCP","name":""}]}`))
	f.Add("/usher/registry/endpoints/a/s", []byte(`{"apiVersion":"v1","kind":"Endpoints","metadata":{"name":"s","namespace":"a"},"subsets":[{"addresses":[{"ip":"::1"}],"ports":[{"port":1}]}]}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		k, ok := ParseKey(key)
		if !ok {
			return
		}
		obj, err := Decode(k, value, 2)
		if err != nil {
			return
		}
		s := NewStore()
		s.Replace(1, nil)
		s.Apply(2, []Write{{k, obj}})
		for range s.Snapshot().Frontends() {
		}
		s.Replace(3, nil)
	})
}

// FuzzManifest checks that no document does harm on the way through decoding,
// defaulting and validation, and that what passes survives etcd.
func FuzzManifest(f *testing.F) {
	f.Add(payment)
	f.Add(strings.ReplaceAll(payment, "10.96.143.7", "None"))
	f.Add("spec: {type: ExternalName, externalName: example.org}\nmetadata: {name: a, namespace: b}")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, document string) {
		obj, err := DecodeStrict(Services, []byte(document))
		if err != nil {
			return
		}
		SetDefaults(obj)
		if len(Validate(obj)) > 0 {
			return
		}
		value, err := Encode(obj)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(KeyOf(obj), value, 1); err != nil {
			t.Errorf("a valid manifest does not come back from etcd: %v\n%s", err, value)
		}
	})
}
