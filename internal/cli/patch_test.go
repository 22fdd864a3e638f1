package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

func TestPatch(t *testing.T) {
	f := newFake(t, finance)
	runSteps(t, f, []step{
		{`patch svc payment-service -p {"spec":{"ports":[{"port":80,"appProtocol":"http"}]}}`, result{0, "service/payment-service patched\n", ""}},
		{"patch svc payment-service -o jsonpath={.spec.ports[*].port} -p {}", result{0, "80 53", ""}}, // merged by port
		{"patch svc payment-service -p {}", result{0, "service/payment-service patched (no change)\n", ""}},
		{`patch svc payment-service --type=merge -p spec:{sessionAffinity:ClientIP}`, result{1, "", "Error from server (BadRequest): Invalid JSON Patch\n"}}, // not what it looks like
		{`patch svc payment-service --type=MERGE -p {"spec":{"ports":[{"port":81}]}}`, result{0, "service/payment-service patched\n", ""}},
		{`patch svc payment-service --type=json -p [{"op":"replace","path":"/spec/ports/0/port","value":82}]`, result{0, "service/payment-service patched\n", ""}},
		{"patch svc payment-service -o jsonpath={.spec.ports[*].port} -p {}", result{0, "82", ""}},
		{`patch svc payment-service -p {"spec":{"sessionAffinity":"Nope"}}`, result{1, "",
			"The Service \"payment-service\" is invalid: spec.sessionAffinity: Unsupported value: \"Nope\": supported values: \"ClientIP\", \"None\"\n"}},
		{`patch svc payment-service -p {"spec":{"sessionAffinity":"ClientIP"}} --dry-run=server`, result{0, "service/payment-service patched (server dry run)\n", ""}},
		{`patch svc payment-service -p {`, result{1, "", "error: unable to parse \"{\": yaml: line 1: did not find expected node content\n"}},
		{`patch svc none -p {}`, result{4, "", "Error from server (NotFound): services \"none\" not found\n"}},
		{`patch svc payment-service --patch-file=/none`, result{1, "", "error: unable to read patch file: open /none: no such file or directory\n"}},
	})
}

func TestPatchStatus(t *testing.T) {
	f := newFake(t, finance)
	file := filepath.Join(t.TempDir(), "patch.yaml")
	if err := os.WriteFile(file, []byte("status: {phase: Failed}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	runSteps(t, f, []step{
		{"patch pod p1 --type=merge --patch-file=" + file, result{0, "pod/p1 patched (no change)\n", ""}},
		{"patch pod p1 --type=merge --subresource=status --patch-file=" + file, result{0, "pod/p1 patched\n", ""}},
	})
	pod := f.Snapshot().Get(registry.Key{Kind: registry.Pods, Namespace: "finance", Name: "p1"}).(*corev1.Pod)
	if diff := cmp.Diff(corev1.PodFailed, pod.Status.Phase); diff != "" {
		t.Errorf("phase (-want +got):\n%s", diff)
	}
}
