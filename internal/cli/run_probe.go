package cli

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"usher/registry"
)

// readinessFlags say when a Pod is ready: how to ask, and all the rest of a
// readinessProbe.
type readinessFlags struct {
	http, tcp, grpc, exec string
	probe                 string
}

func (r *readinessFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.http, "readiness-http", "", "ready while GET succeeds: [http[s]://][HOST:PORT]/PATH, by default of the first port")
	f.StringVar(&r.tcp, "readiness-tcp", "", "ready while this port accepts connections: a number or a name")
	f.StringVar(&r.grpc, "readiness-grpc", "", "ready while the gRPC health service says so: PORT[/SERVICE]")
	f.StringVar(&r.exec, "readiness-exec", "", "ready while this shell command succeeds")
	f.StringVar(&r.probe, "readiness-probe", "", "a readinessProbe, or what is to be added to one: '{periodSeconds: 2}'")
}

// read returns the readinessProbe that is wanted, or nil. Whether it makes sense
// is for others to say.
func (r *readinessFlags) read(ports []corev1.ContainerPort) (*corev1.Probe, error) {
	if *r == (readinessFlags{}) {
		return nil, nil
	}
	p := new(corev1.Probe)
	if err := yaml.UnmarshalStrict([]byte(r.probe), p); err != nil {
		return nil, usagef("invalid --readiness-probe: %v", err)
	}
	var err error
	if r.http != "" {
		if p.HTTPGet, err = readHTTPProbe(r.http, ports); err != nil {
			return nil, err
		}
	}
	if r.tcp != "" {
		p.TCPSocket = &corev1.TCPSocketAction{Port: intstr.Parse(r.tcp)}
	}
	if r.grpc != "" {
		if p.GRPC, err = readGRPCProbe(r.grpc, ports); err != nil {
			return nil, err
		}
	}
	if r.exec != "" {
		p.Exec = &corev1.ExecAction{Command: []string{"/bin/sh", "-c", r.exec}}
	}
	return p, nil
}

// readHTTPProbe reads [SCHEME://][HOST:PORT]/PATH, where the host may be left
// out and the port may be the name of one.
func readHTTPProbe(s string, ports []corev1.ContainerPort) (*corev1.HTTPGetAction, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "http", s
	}
	authority, path, ok := strings.Cut(rest, "/")
	if !ok && authority == rest && !strings.Contains(rest, ":") {
		return nil, usagef("invalid --readiness-http %q: want [http[s]://][HOST:PORT]/PATH", s)
	}
	get := &corev1.HTTPGetAction{Scheme: corev1.URIScheme(strings.ToUpper(scheme)), Path: "/" + path}
	if authority != "" {
		colon := strings.LastIndexByte(authority, ':')
		if colon < 0 {
			return nil, usagef("invalid --readiness-http %q: %q has no port", s, authority)
		}
		get.Host, get.Port = strings.Trim(authority[:colon], "[]"), intstr.Parse(authority[colon+1:])
		return get, nil
	}
	i := slices.IndexFunc(ports, func(p corev1.ContainerPort) bool { return p.Protocol == corev1.ProtocolTCP })
	if i < 0 {
		return nil, usagef("invalid --readiness-http %q: there is no TCP port to ask; give one with -p, or write :PORT%s", s, get.Path)
	}
	get.Port = intstr.FromInt32(ports[i].ContainerPort)
	return get, nil
}

// readGRPCProbe reads PORT[/SERVICE]. The probe itself takes no names of ports.
func readGRPCProbe(s string, ports []corev1.ContainerPort) (*corev1.GRPCAction, error) {
	port, service, _ := strings.Cut(s, "/")
	number := registry.ProbePort(intstr.Parse(port), &corev1.Container{Ports: ports})
	if _, err := strconv.Atoi(port); err != nil && number == 0 {
		return nil, usagef("invalid --readiness-grpc %q: no port has the name %q", s, port)
	}
	return &corev1.GRPCAction{Port: number, Service: &service}, nil
}
