package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"usher/internal/api"
	"usher/internal/client"
	"usher/internal/direct"
	"usher/internal/netenv"
	"usher/registry"
)

func newExecCommand(g *globals) *cobra.Command {
	mode := modeAuto
	var links bool
	cmd := &cobra.Command{
		Use:   "exec [-n NAMESPACE] [--mode auto|direct|proxy|private|host] -- COMMAND [ARG...]",
		Short: "Run a program that sees Services by their names",
		Long: `Run a program, unmodified, where names such as backend or payment-service.finance
resolve, and ClusterIPs are reached, as in a Pod of the namespace. The files of the
machine stay as they are.

  direct   connections and datagrams to ClusterIPs go straight to a backend, and names
           to a nameserver of usher exec; everything else is as without usher
  proxy    the same, but to the daemon's proxy, which sees every byte
  private  the program has a network of its own, with every Service and nothing else:
           no internet and no localhost of the machine, for tests that depend on nothing
  host     the program has a resolv.conf of its own alone, where ClusterIPs are visible:
           the daemon has the anyip view in this network namespace
  auto     direct where it works, otherwise host or private; it says which, and why

The default is auto. A Service with the annotation usher.internal/path: proxy, or
whose backends are told the client's address by a PROXY header, is reached through
the proxy in mode direct too.

direct and proxy need Linux 5.19 and no privilege, and programs that gain privileges
when they start, as sudo, do not: run usher itself with sudo. From a network namespace
of its own a program reaches no Service. usher stays until everything that the program
started has ended.

private needs user namespaces, or root, and the daemon's unix socket. What the program
leaves behind in the background reaches no Service any more when it has ended. It
cannot listen on every address at a port that a Service has: on localhost it can.

In mode host, where /etc/resolv.conf is no link into /run and is replaced while the
program runs, as DHCP may do, the program gets the new one: start it again.

Exit code, signals and terminal are the program's own.`,
		Example: `  usher exec -- curl http://web/
  usher exec -n finance -- java PaymentClient.java
  usher exec --mode private -- go test ./...`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || cmd.ArgsLenAtDash() > 0 {
				return usagef("want a command: usher exec [-n NAMESPACE] -- COMMAND [ARG...]")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(modes, mode) {
				return usagef("unknown mode %q: want one of %s", mode, strings.Join(modes, ", "))
			}
			return g.exec(cmd.Context(), mode, links, args)
		},
	}
	cmd.Flags().StringVar(&mode, "mode", mode, "how the program sees Services: auto, direct, proxy, private or host")
	addLinksFlag(cmd, &links)
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func (g *globals) exec(ctx context.Context, mode string, links bool, args []string) error {
	namespace := g.requestNamespace()
	if msgs := validation.IsDNS1123Label(namespace); len(msgs) > 0 { // it becomes a part of resolv.conf
		return usageError{field.Invalid(field.NewPath("namespace"), namespace, strings.Join(msgs, "; "))}
	}
	c, err := g.client()
	if err != nil {
		return err
	}
	if mode != modePrivate && mode != modeHost {
		go probe() // meanwhile
	}
	laterGarbage()
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	services, err := c.List(ctx, registry.Services, "", client.ListOptions{})
	if err != nil {
		return err
	}
	if mode == modeAuto {
		var why string
		mode, why = g.chooseMode(status)
		fmt.Fprintf(g.env.Stderr, "usher: mode %s: %s\n", mode, why)
	}
	env := slices.Concat(variablesOf(services, namespace, links), os.Environ()) // the user's own variables win
	var code int
	switch mode {
	case modeHost:
		code, err = execHost(c, status, namespace, args, env)
	case modePrivate:
		code, err = g.execPrivate(c, status, namespace, args, env)
	default:
		code, err = g.execTranslated(c, status, services, mode == modeProxy, namespace, args, env)
	}
	if err != nil {
		fmt.Fprintln(g.env.Stderr, message(err))
	}
	if code != 0 {
		return exitCode(code)
	}
	return nil
}

// laterGarbage leaves what is made at the start to be collected later: that is
// little, and by then many a program has ended.
func laterGarbage() {
	usual := debug.SetGCPercent(400)
	time.AfterFunc(time.Second, func() { debug.SetGCPercent(usual) })
}

// probe finds out what the kernel can do, once.
var probe = sync.OnceValue(direct.Probe)

// translates returns why the modes direct and proxy do not work here, or nil.
func translates(status *api.Status) error {
	if !sharesNetwork(status) {
		return errors.New("the daemon is in another network namespace than this one, and so are backends on loopback" +
			"\n  run exec where the daemon runs")
	}
	err := probe()
	if errors.Is(err, direct.ErrNested) {
		return nested(err)
	}
	if err != nil {
		return fmt.Errorf("%w\n  or, in a network of its own: --mode private", err)
	}
	return nil
}

// sharesNetwork reports whether a daemon of this machine is in the network
// namespace of this process.
func sharesNetwork(status *api.Status) bool {
	here := networkNamespace()
	return slices.ContainsFunc(status.Views, func(v api.ViewStatus) bool { return v.NetNS == here })
}

// execHost runs a program that has a resolv.conf of its own.
func execHost(c *client.Client, status *api.Status, namespace string, args, env []string) (code int, err error) {
	nameserver, err := visibleNameserver(status)
	if err != nil {
		return exitError, err
	}
	c.Close()
	return netenv.Exec(netenv.Options{
		Args: args, Env: env, Nameserver: nameserver, Search: registry.SearchPath(namespace, status.ClusterDomain),
	})
}

// execPrivate runs a program that has a network of its own.
func (g *globals) execPrivate(c *client.Client, status *api.Status, namespace string, args, env []string) (code int, err error) {
	if err := g.isolates(); err != nil {
		return exitError, fmt.Errorf("run a program in a network of its own: %w", err)
	}
	ranges, err := prefixesOf(status)
	if err != nil {
		return exitError, err
	}
	c.Close()
	view := api.PrivateView{PID: os.Getpid(), Command: strings.Join(args, " "), CIDRs: ranges}
	return netenv.Exec(netenv.Options{
		Args: args, Env: env,
		Nameserver: registry.NewIPRange(ranges[0]).At(registry.DNSOffset), Search: registry.SearchPath(namespace, status.ClusterDomain),
		Private: &netenv.Private{
			Socket: strings.TrimPrefix(g.address(), "unix:"), Target: view.Target(), CIDRs: ranges,
		},
	})
}

// execTranslated runs a program whose connections are translated.
func (g *globals) execTranslated(c *client.Client, status *api.Status, services *client.List, proxied bool, namespace string, args, env []string) (code int, err error) {
	defer c.Close()
	if err := translates(status); err != nil {
		return exitError, fmt.Errorf("run a program with its connections translated: %w", err)
	}
	o, err := g.translation(c, status, namespace)
	if err != nil {
		return exitError, err
	}
	o.Services, o.AllProxied, o.Otherwise = services, proxied, "usher exec --mode private"
	return direct.Run(o, args, env)
}

// translation returns what programs of a namespace see of the daemon's Services.
func (g *globals) translation(c *client.Client, status *api.Status, namespace string) (direct.Options, error) {
	ranges, err := prefixesOf(status)
	if err != nil {
		return direct.Options{}, err
	}
	proxy, err := proxyOf(status, ranges)
	if err != nil {
		return direct.Options{}, err
	}
	quiet := *c
	quiet.Warn = nil // what is listed is not the user's doing
	return direct.Options{
		Client: &quiet, ServiceCIDR: ranges, Namespace: namespace, ClusterDomain: status.ClusterDomain,
		Proxy: proxy, Node: status.NodeName, Say: func(line string) { fmt.Fprintln(g.env.Stderr, "usher: "+line) },
	}, nil
}

// proxyOf returns where the daemon's proxy listens for a Frontend in this
// network namespace.
func proxyOf(status *api.Status, ranges []netip.Prefix) (func(registry.FrontendKey) (netip.AddrPort, bool), error) {
	here := networkNamespace()
	views, err := viewsOf(status, ranges, func(v api.ViewStatus) bool { return v.NetNS == here })
	if err != nil {
		return nil, err
	}
	return func(key registry.FrontendKey) (netip.AddrPort, bool) {
		for _, v := range views {
			if addr, _, ok := v.Listen(key.AddrPort()); ok {
				return addr, true
			}
		}
		return netip.AddrPort{}, false
	}, nil
}

// visibleNameserver returns the nameserver of the View that has the ClusterIPs
// themselves, if this process is in its network namespace.
func visibleNameserver(status *api.Status) (netip.Addr, error) {
	const otherwise = "\n  the addresses on loopback work in any case: usher get svc -A -o wide"
	for _, v := range status.Views {
		if v.Name != viewAnyIP {
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
