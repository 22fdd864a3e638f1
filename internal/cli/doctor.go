package cli

import (
	"cmp"
	"context"
	"math"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"usher/internal/api"
	"usher/internal/client"
	"usher/internal/config"
	"usher/internal/doctor"
	"usher/internal/netenv"
	"usher/internal/setup"
	"usher/internal/vip"
	"usher/registry"
)

func newDoctorCommand(g *globals) *cobra.Command {
	var output, file string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what keeps usher from working here, and say what to do about it",
		Long: `Look for what keeps usher from working on this machine, with a daemon or without
one, as root or not. Nothing is changed, and nobody asked but the daemon. Each check
is PASS, WARN for what is missed, or FAIL for what does not work, and says below what to
do. The exit code is 1 if anything is FAIL.`,
		Example: "  usher doctor\n  usher doctor -o json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "json", "yaml", "table"); err != nil {
				return err
			}
			m := g.examined(cmd.Context(), file)
			d := newDiagnosis(m.Exec, doctor.Examine(m))
			var err error
			if output == "json" || output == "yaml" {
				err = printValue(g.env.Stdout, output, d)
			} else {
				err = (&tablePrinter{w: g.env.Stdout}).print(d.rows())
			}
			if err == nil && doctor.Failed(d.Findings) {
				err = exitCode(exitError)
			}
			return err
		},
	}
	addOutputFlag(cmd, &output, "json", "yaml", "table")
	cmd.Flags().StringVar(&file, "config", "", "configuration file of the daemon")
	return cmd
}

// A diagnosis is what doctor prints.
type diagnosis struct {
	metav1.TypeMeta `json:",inline"`

	Exec     doctor.Exec      `json:"exec"`
	Findings []doctor.Finding `json:"findings"`
}

func newDiagnosis(exec doctor.Exec, findings []doctor.Finding) diagnosis {
	return diagnosis{metav1.TypeMeta{Kind: "Diagnosis", APIVersion: api.Group + "/" + api.Version}, exec, findings}
}

// rows returns the lines of the table. What to do stands below what is the
// matter.
func (d diagnosis) rows() [][]string {
	rows := [][]string{{"CHECK", "RESULT", "FINDING"}}
	for _, f := range d.Findings {
		rows = append(rows, []string{f.Check, string(f.Result), printable(f.Finding)})
		if f.Remedy != "" {
			rows = append(rows, []string{"", "", "  " + printable(f.Remedy)})
		}
	}
	return rows
}

// examined returns what there is to know of this machine.
func (g *globals) examined(ctx context.Context, file string) *doctor.Machine {
	m := &doctor.Machine{
		Root: os.DirFS("/"), OS: runtime.GOOS, UID: os.Geteuid(), Now: time.Now(),
		Version: version, Server: g.address(), TempDir: os.TempDir(),
		Translate: probe(), Private: netenv.Probe(), FirstPort: vip.FirstPort(), FileLimit: fileLimit(),
		Overlap: vip.Overlap, Leaves: vip.Leaves, LeftBehind: vip.LeftBehind, Dial: dialUnix, Changes: g.setupChanges,
	}
	m.Config, m.ConfigErr = g.configuration(file)
	m.Daemon, m.Ports, m.DaemonErr = g.examineDaemon(ctx)
	if m.Daemon == nil {
		m.Ports = defaultPorts(m.Config)
		m.Exec = execWithoutDaemon(m.Translate, m.Private)
		return m
	}
	m.Exec.Mode, m.Exec.Why = g.chooseMode(m.Daemon.Status)
	m.Exec.Modes = g.execText(m.Daemon.Status)
	m.Exec.Works = g.lacks(m.Exec.Mode, m.Daemon.Status) == nil
	return m
}

// execWithoutDaemon says what exec will do when there is a daemon here.
func execWithoutDaemon(translate, private error) doctor.Exec {
	if translate != nil {
		return doctor.Exec{Mode: modePrivate, Why: cannotTranslate(translate), Works: private == nil}
	}
	return doctor.Exec{Mode: modeDirect, Why: straight, Works: true}
}

// examineDaemon asks the daemon that the flags or the environment name.
func (g *globals) examineDaemon(ctx context.Context) (*doctor.Daemon, []doctor.Port, error) {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := g.client()
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	d := new(doctor.Daemon)
	if d.Status, err = c.Status(ctx); err != nil {
		return nil, nil, err
	}
	d.Here = isHere(g.address()) && sharesNetwork(d.Status)
	pods, podsErr := podNames(ctx, c)
	d.Pods = pods
	ports, portsErr := servicePorts(ctx, c, d.Status)
	d.Ready = cmp.Or(c.Ready(ctx), podsErr, portsErr)
	return d, ports, nil
}

func podNames(ctx context.Context, c *client.Client) (map[types.NamespacedName]bool, error) {
	pods, err := c.List(ctx, registry.Pods, "", client.ListOptions{})
	if err != nil {
		return nil, err
	}
	names := make(map[types.NamespacedName]bool)
	for _, pod := range pods.Items {
		names[types.NamespacedName{Namespace: pod.GetNamespace(), Name: pod.GetName()}] = true
	}
	return names, nil
}

// servicePorts returns where a daemon listens for its Services, or would.
func servicePorts(ctx context.Context, c *client.Client, status *api.Status) ([]doctor.Port, error) {
	services, err := c.List(ctx, registry.Services, "", client.ListOptions{})
	if err != nil {
		return nil, err
	}
	ranges, err := prefixesOf(status)
	if err != nil {
		return nil, err
	}
	// The ports in a network of its own are in nobody's way.
	views, err := viewsOf(status, ranges, func(v api.ViewStatus) bool { return v.Name != viewPrivate })
	if err != nil {
		return nil, err
	}
	var ports []doctor.Port
	for _, obj := range services.Items {
		svc := obj.(*corev1.Service)
		name := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
		for _, p := range svc.Spec.Ports {
			if p.NodePort != 0 {
				ports = append(ports, doctor.Port{Number: uint16(p.NodePort), Protocol: string(p.Protocol), Service: name})
			}
			ip, err := netip.ParseAddr(svc.Spec.ClusterIP)
			if err != nil {
				continue // headless
			}
			for _, v := range views {
				if at, _, ok := v.Listen(netip.AddrPortFrom(ip, uint16(p.Port))); ok {
					ports = append(ports, doctor.Port{Number: at.Port(), Protocol: string(p.Protocol), Service: name})
				}
			}
		}
	}
	return ports, nil
}

// defaultPorts returns where a daemon would listen for the Services that always
// exist.
func defaultPorts(c *config.Config) []doctor.Port {
	if c == nil || !c.ServiceCIDRs[0].Addr().Is4() {
		return nil
	}
	view, err := vip.Loopback(c.ServiceCIDRs[0], c.LoopbackCIDR)
	if err != nil {
		return nil
	}
	var ports []doctor.Port
	for _, p := range []doctor.Port{
		{Number: 443, Protocol: "TCP", Service: types.NamespacedName{Namespace: metav1.NamespaceDefault, Name: "kubernetes"}},
		{Number: 53, Protocol: "UDP", Service: types.NamespacedName{Namespace: metav1.NamespaceSystem, Name: "kube-dns"}},
		{Number: 53, Protocol: "TCP", Service: types.NamespacedName{Namespace: metav1.NamespaceSystem, Name: "kube-dns"}},
	} {
		at, _, _ := view.Listen(netip.AddrPortFrom(c.ServiceCIDRs[0].Addr(), p.Number))
		p.Number = at.Port()
		ports = append(ports, p)
	}
	return ports
}

// fileLimit returns how many files a daemon of this user may have open: Go
// raises its limit as far as it may.
func fileLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxInt64
	}
	return limit.Max
}

// dialUnix connects to a unix socket for a moment.
func dialUnix(path string) error {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		err = c.Close()
	}
	return err
}

// setupChanges returns what usher setup has changed.
func (g *globals) setupChanges() ([]string, error) {
	changes, err := setup.Pending(g.setupDir())
	var list []string
	for _, c := range changes {
		list = append(list, c.Place.String())
	}
	return list, err
}
