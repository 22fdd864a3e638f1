package agent

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// ParsePort reads a port that a process listens on: [name=]PORT[/tcp|/udp]. A
// name follows the rule of a container port's name (RFC 6335), so that a
// Service can have it as its targetPort.
func ParsePort(s string) (corev1.ContainerPort, error) {
	wrong := func(format string, a ...any) (corev1.ContainerPort, error) {
		return corev1.ContainerPort{}, fmt.Errorf("invalid port %q: "+format, append([]any{s}, a...)...)
	}
	port := corev1.ContainerPort{Protocol: corev1.ProtocolTCP}
	rest := s
	if name, after, ok := strings.Cut(s, "="); ok {
		if msgs := validation.IsValidPortName(name); len(msgs) > 0 {
			return wrong("name %q: %s", name, strings.Join(msgs, "; "))
		}
		port.Name, rest = name, after
	}
	number, protocol, ok := strings.Cut(rest, "/")
	if ok {
		port.Protocol = corev1.Protocol(strings.ToUpper(protocol))
		if port.Protocol != corev1.ProtocolTCP && port.Protocol != corev1.ProtocolUDP {
			return wrong("unsupported protocol %q: supported values: \"tcp\", \"udp\"", protocol)
		}
	}
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return wrong("%q is not a port number; the form is [name=]PORT[/tcp|/udp]", number)
	}
	if msgs := validation.IsValidPortNum(int(n)); len(msgs) > 0 {
		return wrong("%s", strings.Join(msgs, "; "))
	}
	port.ContainerPort = int32(n)
	return port, nil
}
