package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// objects reads YAML documents into objects with their defaults set, as the
// API would have stored them at revision.
func objects(t testing.TB, revision int64, documents string) []Object {
	t.Helper()
	var list []Object
	for doc := range strings.SplitSeq(documents, "\n---\n") {
		var meta struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal([]byte(doc), &meta); err != nil {
			t.Fatal(err)
		}
		k := KindFor(schema.FromAPIVersionAndKind(meta.APIVersion, meta.Kind))
		if k == nil {
			t.Fatalf("no kind %q", meta)
		}
		obj, err := DecodeStrict(k, []byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		if k.Namespaced && obj.GetNamespace() == "" {
			obj.SetNamespace("default")
		}
		SetDefaults(obj)
		obj.SetResourceVersion(fmt.Sprint(revision))
		list = append(list, obj)
	}
	return list
}

func writes(objs []Object) []Write {
	var list []Write
	for _, obj := range objs {
		list = append(list, Write{KeyOf(obj), obj})
	}
	return list
}

// frontends prints the Frontends of s, one a line with its Backends.
func frontends(s *Snapshot) string {
	var lines []string
	for f := range s.Frontends() {
		var line strings.Builder
		line.WriteString(fmt.Sprintf("%s %s", f.FrontendKey, f.Service))
		if f.PortName != "" {
			line.WriteString(":" + f.PortName)
		}
		for _, b := range f.Backends {
			line.WriteString(" " + b.Address.String())
		}
		for _, b := range f.Draining {
			line.WriteString(" draining:" + b.Address.String())
		}
		lines = append(lines, line.String())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

const payment = `
apiVersion: v1
kind: Service
metadata: {name: payment-service, namespace: finance}
spec:
  clusterIP: 10.96.143.7
  clusterIPs: [10.96.143.7]
  selector: {app: payment}
  ports: [{port: 80, targetPort: 8080}]`

// pod returns a Pod of the app payment.
func pod(name, ip, more string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: finance, labels: {app: payment, tier: backend}}
spec: {containers: [{name: c, image: i, ports: [{name: web, containerPort: 9000}]}]}
status: {phase: Running, podIP: %s, conditions: [{type: Ready, status: "True"}]}%s`, name, ip, more)
}
