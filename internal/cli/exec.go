package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"usher/internal/api"
	"usher/internal/client"
	"usher/internal/direct"
	"usher/internal/netenv"
)

func newExecCommand(g *globals) *cobra.Command {
	var mode string
	var links bool
	cmd := &cobra.Command{
		Use:   "exec [-n NAMESPACE] [--mode namespace|direct] -- COMMAND [ARG...]",
		Short: "Run a program that sees Services by their names",
		Long: `Run a program, unmodified, where names such as backend or payment-service.finance
resolve to ClusterIPs, as in a Pod of the namespace. The files of the machine stay
as they are: the program has a resolv.conf of its own.

The ClusterIPs have to be visible where the program runs: the daemon has to have
the anyip view in this network namespace. That is --mode namespace.

With --mode direct the ClusterIPs need not be visible anywhere: TCP connections
to them go straight to a backend, whatever the program. Names do not resolve in
this mode yet; the variables of Services, as WEB_SERVICE_HOST, are there. It
needs Linux 5.19 and no privilege, and programs that gain privileges when they
start, as sudo, do not: run usher itself with sudo. UDP and 32-bit programs are
not translated. It stays until everything that the program started has ended.

Where /etc/resolv.conf is no link into /run and is replaced while the program runs,
as DHCP may do, the program gets the new one: start it again.

Exit code, signals and terminal are the program's own.`,
		Example: `  usher exec -- curl http://web/
  usher exec -n finance -- java PaymentClient.java`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || cmd.ArgsLenAtDash() > 0 {
				return usagef("want a command: usher exec [-n NAMESPACE] -- COMMAND [ARG...]")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if mode != modeNamespace && mode != modeDirect {
				return usagef("unknown mode %q: want %s or %s", mode, modeNamespace, modeDirect)
			}
			return g.exec(cmd.Context(), mode, links, args)
		},
	}
	cmd.Flags().StringVar(&mode, "mode", modeNamespace, "how the program sees Services: namespace or direct")
	addLinksFlag(cmd, &links)
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// The modes of exec.
const (
	modeNamespace = "namespace" // a resolv.conf of its own, where the ClusterIPs are visible
	modeDirect    = "direct"    // connections are translated
)

func (g *globals) exec(ctx context.Context, mode string, links bool, args []string) error {
	namespace := g.requestNamespace()
	if msgs := validation.IsDNS1123Label(namespace); len(msgs) > 0 { // it becomes a part of resolv.conf
		return usageError{field.Invalid(field.NewPath("namespace"), namespace, strings.Join(msgs, "; "))}
	}
	c, err := g.client()
	if err != nil {
		return err
	}
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	services, err := serviceVariables(ctx, c, namespace, links)
	if err != nil {
		return err
	}
	env := slices.Concat(services, os.Environ()) // the user's own variables win
	var code int
	if mode == modeDirect {
		code, err = g.execDirect(c, status, args, env)
	} else {
		code, err = execNamespace(c, status, namespace, args, env)
	}
	if err != nil {
		fmt.Fprintln(g.env.Stderr, message(err))
	}
	if code != 0 {
		return exitCode(code)
	}
	return nil
}

// execNamespace runs a program that has a resolv.conf of its own.
func execNamespace(c *client.Client, status *api.Status, namespace string, args, env []string) (code int, err error) {
	nameserver, err := visibleNameserver(status)
	if err != nil {
		return exitError, err
	}
	c.Close()
	return netenv.Exec(netenv.Options{
		Args: args, Env: env, Nameserver: nameserver, Search: netenv.SearchPath(namespace, status.ClusterDomain),
	})
}

// execDirect runs a program whose connections are translated.
func (g *globals) execDirect(c *client.Client, status *api.Status, args, env []string) (code int, err error) {
	defer c.Close()
	if here := networkNamespace(); !slices.ContainsFunc(status.Views, func(v api.ViewStatus) bool { return v.NetNS == here }) {
		return exitError, errors.New("the daemon is in another network namespace than this one, and so are backends on loopback" +
			"\n  run exec where the daemon runs")
	}
	err = direct.Probe()
	if errors.Is(err, direct.ErrNested) {
		return exitError, fmt.Errorf("run a program in mode direct: %w"+
			"\n  under usher exec, programs see Services as they are: run this one without another usher exec", err)
	}
	if err != nil {
		return exitError, fmt.Errorf("run a program in mode direct: %w\n  or, where the daemon has the anyip view: --mode namespace", err)
	}
	var ranges []netip.Prefix
	for _, text := range status.ServiceCIDR {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return exitError, fmt.Errorf("read the service range of the daemon: %w", err)
		}
		ranges = append(ranges, prefix)
	}
	return direct.Run(direct.Options{
		Args: args, Env: env, Client: c, ServiceCIDR: ranges, Node: status.NodeName, Stderr: g.env.Stderr,
	})
}

// visibleNameserver returns the nameserver of the View that has the ClusterIPs
// themselves, if this process is in its network namespace.
func visibleNameserver(status *api.Status) (netip.Addr, error) {
	const otherwise = "\n  the addresses on loopback work in any case: usher get svc -A -o wide"
	for _, v := range status.Views {
		if v.Name != "anyip" {
			continue
		}
		if here := networkNamespace(); v.NetNS != here {
			return netip.Addr{}, fmt.Errorf("the ClusterIPs are visible in the daemon's network namespace (%d), and this is another one (%d)%s",
				v.NetNS, here, otherwise)
		}
		addr, err := netip.ParseAddrPort(v.Nameserver)
		if err == nil && addr.Port() != 53 {
			return netip.Addr{}, fmt.Errorf("the nameserver of the anyip view is at %s: a resolv.conf cannot name a port\n  give the daemon CAP_NET_BIND_SERVICE", addr)
		}
		if err != nil {
			return netip.Addr{}, errors.New("the nameserver of the anyip view is not open: another program has port 53\n  see: usher describe svc kube-dns -n kube-system")
		}
		return addr.Addr(), nil
	}
	var views []string
	for _, v := range status.Views {
		views = append(views, v.Name)
	}
	return netip.Addr{}, fmt.Errorf("exec needs the ClusterIPs to be visible here, and the daemon has no anyip view (it has: %s)"+
		"\n  give it one:        start usher serve as root, or in a network namespace of your own: unshare -Urnm%s",
		strings.Join(views, ", "), otherwise)
}

// networkNamespace returns the inode of this process's network namespace.
func networkNamespace() uint64 {
	info, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return 0
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino)
	}
	return 0
}
