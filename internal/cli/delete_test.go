package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

func TestDelete(t *testing.T) {
	tests := []struct {
		args  string
		input string
		want  result
	}{
		{"svc empty -n finance", "", result{0, "service \"empty\" deleted from finance namespace\n", ""}},
		{"ns finance", "", result{0, "namespace \"finance\" deleted\n", ""}},
		{"svc/empty pod/p1 -n finance", "", result{0, "service \"empty\" deleted from finance namespace\npod \"p1\" deleted from finance namespace\n", ""}},
		{"svc none empty -n finance", "", result{4, "service \"empty\" deleted from finance namespace\n", "Error from server (NotFound): services \"none\" not found\n"}},
		{"svc none --ignore-not-found", "", result{0, "", ""}},
		{"pods -l app=payment -n finance -o name", "", result{0, "pod/p1\npod/p2\n", ""}},
		{"pods -l app=none -n finance", "", result{0, "", "No resources found\n"}},
		{"svc --all -A", "", result{0, "service \"empty\" deleted from finance namespace\nservice \"payment-service\" deleted from finance namespace\nservice \"empty\" deleted from other namespace\n", ""}},
		{"all --all -n other", "", result{0, "service \"empty\" deleted from other namespace\n", ""}},
		{"endpointslices --all -A", "", result{0, "", "No resources found\n"}}, // derived ones cannot be deleted
		{"-f - -n finance", "kind: Service\napiVersion: v1\nmetadata: {name: empty}\nspec: {portz: []}\n", // what is wrong with it is of no importance
			result{0, "service \"empty\" deleted from finance namespace\n", ""}},
		{"-f - -n finance", finance, result{1, "", `error: the namespace from the provided object "other" does not match the namespace "finance". You must pass '--namespace=other' to perform this operation.` +
			"\n  in \"STDIN\" (document 3)\n"}},
		{"-f -", "# nothing\n", result{0, "", "No resources found\n"}},
		{"widgets a", "", result{1, "", "error: the server doesn't have a resource type \"widgets\"\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			f := newFake(t, finance)
			got := f.usher(t, tt.input, append([]string{"delete"}, strings.Fields(tt.args)...)...)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n := strings.Count(got.stdout, "\n"); n != len(f.requests) && got.code == 0 {
				t.Errorf("%d lines for the requests %q", n, f.requests)
			}
		})
	}
}

// delete returns when the object is gone, which another one of its name is
// not.
func TestAwaitDeletion(t *testing.T) {
	f := newFake(t, finance)
	p1 := registry.Key{Kind: registry.Pods, Namespace: "finance", Name: "p1"}
	p2 := registry.Key{Kind: registry.Pods, Namespace: "finance", Name: "p2"}
	again := f.Snapshot().Get(p2).DeepCopyObject().(*corev1.Pod)
	f.linger(p1, p2)
	out, _ := f.start(t, "delete", "pod", "p1", "p2", "-n", "finance")
	const said = "pod \"p1\" deleted from finance namespace\npod \"p2\" deleted from finance namespace\n"
	out.await(t, said)
	done := make(chan result, 1)
	go func() { done <- f.usher(t, "", "delete", "pod", "p2", "-n", "finance") }()
	f.waitWatches(t, 2)
	select {
	case got := <-done:
		t.Fatalf("returned while the Pod is there: %+v", got)
	default:
	}
	again.UID = "another"
	f.mu.Lock()
	f.remove(p1)
	f.put(again)
	f.mu.Unlock()
	if got := <-done; got.code != 0 {
		t.Errorf("%+v", got)
	}
}

func TestDeleteDoesNotWait(t *testing.T) {
	f := newFake(t, finance)
	f.linger(registry.Key{Kind: registry.Pods, Namespace: "finance", Name: "p1"})
	for _, args := range []string{"--wait=false", "--wait=false --now", "--wait=false --grace-period=0"} {
		if got := f.usher(t, "", append(strings.Fields("delete pod p1 -n finance"), strings.Fields(args)...)...); got.code != 0 {
			t.Errorf("%s: %+v", args, got)
		}
	}
	want := []string{"-", "1", "0"}
	if !slices.Equal(want, f.graces) {
		t.Errorf("grace periods %q, want %q", f.graces, want)
	}
}
