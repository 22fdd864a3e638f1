package registry

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestUpdatePod checks what of a Pod may change.
func TestUpdatePod(t *testing.T) {
	const more = "spec: pod updates may not change fields other than"
	manifest := func(spec string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b, resourceVersion: \"1\"}\nspec: {" + spec + "}"
	}
	const (
		one      = "containers: [{name: c, image: i}]"
		deadline = ", activeDeadlineSeconds: 60"
		tolerant = ", tolerations: [{key: k, operator: Exists, tolerationSeconds: 5}]"
	)
	process := func(more string) string {
		return "containers: [{name: c, image: usher.internal/process, " + more + "}]"
	}
	tests := []struct {
		name, old, now string
		want           []string // the beginnings of the errors
	}{
		{"nothing", one, one, nil},
		{"the image", one, "containers: [{name: c, image: j}]", nil},
		{"the image of an init container", one + ", initContainers: [{name: d, image: i}]", one + ", initContainers: [{name: d, image: j}]", nil},
		{"an image with spaces", one, "containers: [{name: c, image: ' j'}]", []string{
			`spec.containers[0].image: Invalid value: " j": must not have leading or trailing whitespace`}},
		{"a container more", one, "containers: [{name: c, image: i}, {name: d, image: i}]", []string{
			"spec.containers: Forbidden: pod updates may not add or remove containers"}},
		{"an init container more", one, one + ", initContainers: [{name: d, image: i}]", []string{
			"spec.initContainers: Forbidden: pod updates may not add or remove containers"}},
		{"a port", one, "containers: [{name: c, image: i, ports: [{containerPort: 80}]}]", []string{
			"spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`," +
				"`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations)," +
				"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"}},
		{"a port of a process", process(""), process("ports: [{containerPort: 80}]"), nil},
		{"a wrong port of a process", process(""), process("ports: [{containerPort: 0}]"), []string{
			"spec.containers[0].ports[0].containerPort: "}},
		{"a port of what becomes a process", one, process("ports: [{containerPort: 80}]"), []string{
			"spec: Forbidden: pod updates may not change fields other than"}},
		{"the command of a process", process(""), process("command: [other]"), []string{
			"spec: Forbidden: pod updates may not change fields other than"}},
		{"the hostname", one, one + ", hostname: h", []string{strings.Replace(more, ": ", ": Forbidden: ", 1)}},
		{"the grace period", one, one + ", terminationGracePeriodSeconds: 5", []string{strings.Replace(more, ": ", ": Forbidden: ", 1)}},
		{"a deadline", one, one + deadline, nil},
		{"a nearer deadline", one + deadline, one + ", activeDeadlineSeconds: 30", nil},
		{"a later deadline", one + deadline, one + ", activeDeadlineSeconds: 90", []string{
			"spec.activeDeadlineSeconds: Invalid value: 90: must be less than or equal to previous value"}},
		{"a negative deadline", one, one + ", activeDeadlineSeconds: -1", []string{
			"spec.activeDeadlineSeconds: Invalid value: -1: must be between 0 and 2147483647, inclusive"}},
		{"no deadline any more", one + deadline, one, []string{
			"spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"}},
		{"a toleration more", one, one + tolerant, nil},
		{"a longer toleration", one + tolerant, one + strings.Replace(tolerant, "5", "9", 1), nil},
		{"a toleration less", one + tolerant, one, []string{
			"spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, got := check(t, manifest(tt.now), manifest(tt.old), oneFamily)
			for i, message := range got {
				if i < len(tt.want) && strings.HasPrefix(message, tt.want[i]) {
					got[i] = tt.want[i]
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}
