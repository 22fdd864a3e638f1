package registry

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// TestMovedPorts checks where a process is found that may not listen on the
// port that it means.
func TestMovedPorts(t *testing.T) {
	const moved = "usher.internal/moved-ports: 8080/TCP=16080,9000/TCP=17000"
	tests := []struct {
		name, target, annotation string
		want                     int32
	}{
		{"by number", "8080", moved, 16080},
		{"by name", "web", moved, 17000},
		{"another port", "8081", moved, 8081},
		{"another protocol", "8080", "usher.internal/moved-ports: 8080/UDP=16080", 8080},
		{"none", "8080", "", 8080},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := pod("a", "10.1.0.5", "")
			if tt.annotation != "" {
				p = strings.Replace(p, "metadata: {", "metadata: {annotations: {"+strings.Replace(tt.annotation, ": ", ": \"", 1)+"\"}, ", 1)
			}
			got := derived(t, strings.Replace(payment, "8080", tt.target, 1), p)
			if len(got) != 1 || len(got[0].Ports) != 1 || *got[0].Ports[0].Port != tt.want {
				t.Errorf("got %+v, want %d", got, tt.want)
			}
		})
	}
}

func TestMovedPortsAreValid(t *testing.T) {
	pod := func(text string) *corev1.Pod {
		p := Pods.New().(*corev1.Pod)
		p.Annotations = map[string]string{AnnotationMovedPorts: text}
		return p
	}
	for _, text := range []string{"", "80=8080", "80/TCP", "80/TCP=", "80/tcp=8080", "0/TCP=8080", "80/TCP=65536", "80/TCP=8080,", "80/TCP=8080=1"} {
		errs := validateMovedPorts(pod(text))
		if len(errs) != 1 || !strings.Contains(errs[0].Error(), "metadata.annotations[usher.internal/moved-ports]: Invalid value") {
			t.Errorf("%q: %v", text, errs)
		}
	}
	p := pod("")
	list := []MovedPort{{80, corev1.ProtocolUDP, 8080}, {443, corev1.ProtocolTCP, 8443}, {80, corev1.ProtocolTCP, 8080}}
	SetMovedPorts(p, list)
	if diff := cmp.Diff("80/TCP=8080,80/UDP=8080,443/TCP=8443", p.Annotations[AnnotationMovedPorts]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if errs := validateMovedPorts(p); len(errs) > 0 {
		t.Error(errs)
	}
	if got, err := parseMovedPorts(p.Annotations[AnnotationMovedPorts]); err != nil || len(got) != 3 || !slices.Contains(got, list[0]) {
		t.Error(got, err)
	}
	SetMovedPorts(p, nil)
	if _, ok := p.Annotations[AnnotationMovedPorts]; ok {
		t.Error("the annotation stays")
	}
}
