package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/registry"
)

func TestParseTargets(t *testing.T) {
	tests := []struct {
		args  string // "_" is an empty argument
		want  []string
		err   string
		usage bool
	}{
		{args: "svc", want: []string{"services"}},
		{args: "Service", want: []string{"services"}},
		{args: "services a b", want: []string{"services a b"}},
		{args: "svc,pods,ep", want: []string{"services", "pods", "endpoints"}},
		{args: "svc,po a", want: []string{"services a", "pods a"}},
		{args: "all", want: []string{"pods", "services", "endpointslices"}},
		{args: "all,ns", want: []string{"pods", "services", "endpointslices", "namespaces"}},
		{args: "svc/a", want: []string{"services a"}},
		{args: "svc/a services/b pod/c svc/d", want: []string{"services a b", "pods c", "services d"}},
		{args: "endpointslices.discovery.k8s.io", want: []string{"endpointslices"}},
		{args: "endpointslice.v1.discovery.k8s.io/a", want: []string{"endpointslices a"}},
		{args: "services.v1. a", want: []string{"services a"}},
		{args: "ip", want: []string{"ipaddresses"}},

		{args: "", err: "you must specify the type of resource", usage: true},
		{args: "svc _", err: "resource name may not be empty", usage: true},
		{args: "svc a _ b", err: "resource name may not be empty", usage: true},
		{args: "_", err: `the server doesn't have a resource type ""`},
		{args: "foo", err: `the server doesn't have a resource type "foo"`},
		{args: "svc,foo", err: `the server doesn't have a resource type "foo"`},
		{args: "svc,", err: `the server doesn't have a resource type ""`},
		{args: "foo/a", err: `the server doesn't have a resource type "foo"`},
		{args: "services.foo", err: `the server doesn't have a resource type "services.foo"`},
		{args: "all a", err: `"all" is several types`, usage: true},
		{args: "svc/a pod", err: "there is no need to specify a resource type as a separate argument", usage: true},
		{args: "svc a/b", err: "there is no need to specify a resource type as a separate argument", usage: true},
		{args: "svc/", err: "must have a single resource and name", usage: true},
		{args: "/a", err: "must have a single resource and name", usage: true},
		{args: "svc/a/b", err: "must have a single resource and name", usage: true},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			args := strings.Fields(tt.args)
			for i := range args {
				args[i] = strings.TrimPrefix(args[i], "_")
			}
			targets, err := parseTargets(args)
			var got []string
			for _, target := range targets {
				got = append(got, strings.Join(append([]string{target.kind.Resource}, target.names...), " "))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("targets (-want +got):\n%s", diff)
			}
			if tt.err == "" != (err == nil) || !strings.Contains(fmt.Sprint(err), tt.err) || errors.As(err, new(usageError)) != tt.usage {
				t.Errorf("error %v, want %q, about usage %t", err, tt.err, tt.usage)
			}
		})
	}
}

// Every Kind is found by every name that the API's discovery gives it.
func TestKindNamed(t *testing.T) {
	for _, k := range registry.Kinds {
		for _, name := range append([]string{k.Resource, k.Singular, k.Kind, typeName(k)}, k.ShortNames...) {
			if got, err := kindNamed(name); got != k {
				t.Errorf("kindNamed(%q) = %v, %v", name, got, err)
			}
		}
	}
}
