package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"usher/internal/client"
	"usher/registry"
)

// An exposure is what expose was asked for.
type exposure struct {
	*writeCommand
	picking picking

	name, selector, labels     string
	port, targetPort, protocol string
	typ, affinity, clusterIP   string
	externalIP                 string
}

func newExposeCommand(g *globals) *cobra.Command {
	e := &exposure{}
	e.writeCommand = &writeCommand{globals: g, verb: "exposing", done: "exposed", send: exposeObject, wrap: func(err error) error { return err }}
	cmd := &cobra.Command{
		Use:   "expose (-f FILE | TYPE NAME) [--port=PORT]",
		Short: "Make a service for pods or in front of another service",
		Long: `Make a service that selects the Pods with the labels of a Pod, or those that
another service selects. The ports are those of what is exposed, unless --port is
there.`,
		Example: `  usher expose pod payment-0 --name=payment --port=80 --target-port=8080
  usher expose svc web --name=web-https --port=443 --target-port=8443`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if err := e.picking.check(args); err != nil {
				return err
			}
			return e.run(ctx, func() ([]manifest, error) { return e.services(ctx, args) })
		},
	}
	e.picking.files.addFlags(cmd)
	e.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&e.name, "name", "", "the name of the service, if not that of what is exposed")
	f.StringVar(&e.selector, "selector", "", "labels of the Pods, KEY=VALUE,...")
	f.StringVarP(&e.labels, "labels", "l", "", "labels of the service, KEY=VALUE,...")
	f.StringVar(&e.port, "port", "", "the port of the service")
	f.StringVar(&e.targetPort, "target-port", "", "the port of the Pods, a number or a name")
	f.StringVar(&e.protocol, "protocol", "", "TCP, UDP or SCTP")
	f.StringVar(&e.typ, "type", "", "ClusterIP, NodePort, LoadBalancer or ExternalName")
	f.StringVar(&e.affinity, "session-affinity", "", "None or ClientIP")
	f.StringVar(&e.clusterIP, "cluster-ip", "", "the ClusterIP, or None for a headless service")
	f.StringVar(&e.externalIP, "external-ip", "", "another address of the service")
	cmd.ValidArgsFunction = g.completeObjects
	return cmd
}

func exposeObject(ctx context.Context, c *client.Client, m manifest) (registry.Object, string, error) {
	out, _, err := createObject(ctx, c, m)
	return out, "exposed", err
}

// services returns a Service for each object that is exposed.
func (e *exposure) services(ctx context.Context, args []string) ([]manifest, error) {
	c, err := e.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	objects, _, err := e.picking.objects(ctx, e.globals, c, args, "exposing")
	if err != nil {
		return nil, err
	}
	var manifests []manifest
	for _, obj := range objects {
		svc, err := e.service(obj)
		if err != nil {
			return nil, err
		}
		manifests = append(manifests, e.described(svc))
	}
	return manifests, nil
}

// exposed is what a Service needs to know of what it is for.
type exposed struct {
	selector map[string]string
	missing  string // why there is no selector
	ports    []exposedPort
}

type exposedPort struct {
	port     int32
	protocol corev1.Protocol
}

// introspect returns what there is to know of an object.
func introspect(obj registry.Object) (exposed, error) {
	switch obj := obj.(type) {
	case *corev1.Pod:
		x := exposed{selector: obj.Labels, missing: "the pod has no labels and cannot be exposed"}
		for _, c := range obj.Spec.Containers {
			for _, p := range c.Ports {
				x.ports = append(x.ports, exposedPort{p.ContainerPort, p.Protocol})
			}
		}
		return x, nil
	case *corev1.Service:
		x := exposed{selector: obj.Spec.Selector, missing: "the service has no pod selector set"}
		for _, p := range obj.Spec.Ports {
			x.ports = append(x.ports, exposedPort{p.Port, p.Protocol})
		}
		return x, nil
	}
	kind := registry.KindOf(obj).GroupKind()
	return exposed{}, fmt.Errorf("cannot expose a %s", kind.String())
}

// service returns the Service for an object.
func (e *exposure) service(obj registry.Object) (registry.Object, error) {
	x, err := introspect(obj)
	switch {
	case err != nil:
		return nil, err
	case e.selector == "" && len(x.selector) == 0:
		return nil, errors.New("couldn't retrieve selectors via --selector flag or introspection: " + x.missing)
	}
	svc := registry.Services.New().(*corev1.Service)
	svc.Name = e.name
	if svc.Name == "" {
		svc.Name = obj.GetName()[:min(len(obj.GetName()), validation.DNS1035LabelMaxLength)]
	}
	svc.Labels, svc.Spec.Selector = obj.GetLabels(), x.selector
	if e.labels != "" {
		if svc.Labels, err = parseLabels(e.labels); err != nil {
			return nil, err
		}
	}
	if e.selector != "" {
		if svc.Spec.Selector, err = parseLabels(e.selector); err != nil {
			return nil, err
		}
	}
	if svc.Spec.Ports, err = e.ports(x.ports); err != nil {
		return nil, err
	}
	svc.Spec.Type = corev1.ServiceType(e.typ)
	svc.Spec.SessionAffinity = corev1.ServiceAffinity(e.affinity)
	svc.Spec.ClusterIP = e.clusterIP
	if e.externalIP != "" {
		svc.Spec.ExternalIPs = []string{e.externalIP}
	}
	return svc, nil
}

// ports returns the ports of a Service for an object with these ports.
func (e *exposure) ports(known []exposedPort) ([]corev1.ServicePort, error) {
	wanted := known
	if e.port != "" {
		wanted = nil
		for text := range strings.SplitSeq(e.port, ",") {
			n, err := strconv.ParseInt(text, 10, 32)
			if err != nil {
				return nil, usageError{err}
			}
			p := exposedPort{int32(n), corev1.ProtocolTCP}
			if i := slices.IndexFunc(known, func(k exposedPort) bool { return k.port == p.port }); i >= 0 {
				p.protocol = known[i].protocol
			}
			wanted = append(wanted, p)
		}
	}
	if len(wanted) == 0 && e.clusterIP != corev1.ClusterIPNone {
		return nil, errors.New("couldn't find port via --port flag or introspection")
	}
	var ports []corev1.ServicePort
	for i, w := range wanted {
		p := corev1.ServicePort{Port: w.port, Protocol: w.protocol, TargetPort: intstr.FromInt32(w.port)}
		if e.protocol != "" {
			p.Protocol = corev1.Protocol(strings.ToUpper(e.protocol))
		}
		if e.targetPort != "" {
			p.TargetPort = intstr.Parse(e.targetPort)
		}
		if len(wanted) > 1 {
			p.Name = fmt.Sprintf("port-%d", i+1)
		}
		ports = append(ports, p)
	}
	return ports, nil
}
