package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"usher/registry"
)

// A serviceForm is what the flags of create service say.
type serviceForm struct {
	typ          corev1.ServiceType
	tcp          []string
	clusterIP    string
	nodePort     int32
	externalName string
}

func newCreateServiceCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "service TYPE NAME", Aliases: []string{"svc"}, Short: "Create a service of a type",
		Long: `Create a service of one of the types below. It selects the Pods with the label
app=NAME.`,
		Example: "  usher create service clusterip web --tcp=80:8080",
		Args:    knownCommand,
		RunE:    func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	for _, one := range []struct {
		typ                 corev1.ServiceType
		use, short, example string
	}{
		{corev1.ServiceTypeClusterIP, "clusterip NAME [--tcp=PORT:TARGET]", "Create a ClusterIP service",
			"  usher create service clusterip web --tcp=80:8080\n  usher create service clusterip db --clusterip=None"},
		{corev1.ServiceTypeNodePort, "nodeport NAME --tcp=PORT:TARGET", "Create a NodePort service",
			"  usher create service nodeport web --tcp=80:8080 --node-port=30080"},
		{corev1.ServiceTypeLoadBalancer, "loadbalancer NAME --tcp=PORT:TARGET", "Create a LoadBalancer service",
			"  usher create service loadbalancer web --tcp=80:8080"},
		{corev1.ServiceTypeExternalName, "externalname NAME --external-name DNSNAME", "Create an ExternalName service",
			"  usher create service externalname mail --external-name mail.example.org"},
	} {
		form := &serviceForm{typ: one.typ}
		sub := newCreateOneCommand(g, &cobra.Command{Use: one.use, Short: one.short, Example: one.example}, form.wrap, form.service)
		form.addFlags(sub)
		cmd.AddCommand(sub)
	}
	return cmd
}

func (s *serviceForm) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&s.tcp, "tcp", nil, "PORT or PORT:TARGET; may be repeated")
	switch s.typ {
	case corev1.ServiceTypeClusterIP:
		f.StringVar(&s.clusterIP, "clusterip", "", "the ClusterIP, or None for a headless service")
	case corev1.ServiceTypeNodePort:
		f.Int32Var(&s.nodePort, "node-port", 0, "the port on each node")
	case corev1.ServiceTypeExternalName:
		f.StringVar(&s.externalName, "external-name", "", "the DNS name that the service stands for")
	}
}

// wrap says what an error of the server is about.
func (s *serviceForm) wrap(err error) error {
	return fmt.Errorf("failed to create %s service: %v", s.typ, err)
}

// service returns the Service that is described.
func (s *serviceForm) service(name string) (registry.Object, error) {
	switch {
	case s.typ == corev1.ServiceTypeExternalName && s.externalName == "":
		return nil, usagef(`required flag(s) "external-name" not set`)
	case s.typ == corev1.ServiceTypeExternalName && len(validation.IsDNS1123Subdomain(s.externalName)) > 0:
		return nil, usagef("invalid service external name %s", s.externalName)
	case s.typ != corev1.ServiceTypeExternalName && s.clusterIP != corev1.ClusterIPNone && len(s.tcp) == 0:
		return nil, usagef("at least one tcp port specifier must be provided")
	}
	svc := registry.Services.New().(*corev1.Service)
	svc.Name = name
	svc.Labels = map[string]string{"app": name}
	svc.Spec.Type = s.typ
	svc.Spec.Selector = map[string]string{"app": name}
	svc.Spec.ClusterIP = s.clusterIP
	svc.Spec.ExternalName = s.externalName
	for _, text := range s.tcp {
		port, err := parsePort(text)
		if err != nil {
			return nil, usageError{err}
		}
		port.NodePort = s.nodePort
		svc.Spec.Ports = append(svc.Spec.Ports, port)
	}
	return svc, nil
}

// parsePort reads PORT or PORT:TARGET, a number or a name.
func parsePort(text string) (corev1.ServicePort, error) {
	number, target, given := strings.Cut(text, ":")
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return corev1.ServicePort{}, err
	}
	p := corev1.ServicePort{
		Name: strings.ReplaceAll(text, ":", "-"), Protocol: corev1.ProtocolTCP,
		Port: int32(port), TargetPort: intstr.FromInt32(int32(port)),
	}
	if !given {
		return p, nil
	}
	p.TargetPort = intstr.Parse(target)
	wrong := validation.IsValidPortName(target)
	if p.TargetPort.Type == intstr.Int {
		wrong = validation.IsValidPortNum(p.TargetPort.IntValue())
	}
	if len(wrong) > 0 {
		return p, errors.New(strings.Join(wrong, ","))
	}
	return p, nil
}
