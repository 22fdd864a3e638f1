package registry

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ProcessImage stands where the container of a Pod that is a local process has
// its image: there is none.
const ProcessImage = "usher.internal/process"

// AnnotationMovedPorts says, on a Pod, which of its ports are others in truth:
// 80/TCP=8080,… for a process that means to listen on port 80 and may not.
const AnnotationMovedPorts = "usher.internal/moved-ports"

// A MovedPort is one of AnnotationMovedPorts.
type MovedPort struct {
	Port     int32
	Protocol corev1.Protocol
	To       int32
}

func (m MovedPort) String() string { return fmt.Sprintf("%d/%s=%d", m.Port, m.Protocol, m.To) }

// SetMovedPorts writes the annotation of a Pod, in one order, or takes it away.
func SetMovedPorts(pod *corev1.Pod, moved []MovedPort) {
	if len(moved) == 0 {
		delete(pod.Annotations, AnnotationMovedPorts)
		return
	}
	moved = slices.SortedFunc(slices.Values(moved), func(a, b MovedPort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	var list []string
	for _, m := range moved {
		list = append(list, m.String())
	}
	if pod.Annotations == nil {
		pod.Annotations = make(map[string]string)
	}
	pod.Annotations[AnnotationMovedPorts] = strings.Join(list, ",")
}

var errMovedPorts = errors.New("must be PORT/PROTOCOL=PORT,..., as in 80/TCP=8080")

// parseMovedPorts reads the annotation.
func parseMovedPorts(text string) ([]MovedPort, error) {
	var list []MovedPort
	for one := range strings.SplitSeq(text, ",") {
		port, to, _ := strings.Cut(one, "=")
		number, protocol, _ := strings.Cut(port, "/")
		m := MovedPort{parsePortNumber(number), corev1.Protocol(protocol), parsePortNumber(to)}
		if m.Port == 0 || m.To == 0 || m.Protocol != corev1.ProtocolTCP && m.Protocol != corev1.ProtocolUDP {
			return nil, errMovedPorts
		}
		list = append(list, m)
	}
	return list, nil
}

// parsePortNumber returns 0 for what is none.
func parsePortNumber(text string) int32 {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return int32(n)
}

// movedPort returns the port at which a process listens that means to listen on
// number.
func movedPort(pod *corev1.Pod, protocol corev1.Protocol, number int32) int32 {
	text, ok := pod.Annotations[AnnotationMovedPorts]
	if !ok {
		return number
	}
	list, _ := parseMovedPorts(text)
	for _, m := range list {
		if m.Port == number && m.Protocol == protocol {
			return m.To
		}
	}
	return number
}

// validateMovedPorts checks the annotation of a Pod.
func validateMovedPorts(pod *corev1.Pod) field.ErrorList {
	text, ok := pod.Annotations[AnnotationMovedPorts]
	if !ok {
		return nil
	}
	if _, err := parseMovedPorts(text); err != nil {
		return field.ErrorList{field.Invalid(field.NewPath("metadata", "annotations").Key(AnnotationMovedPorts), text, err.Error())}
	}
	return nil
}
