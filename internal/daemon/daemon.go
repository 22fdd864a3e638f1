// Package daemon puts the parts of usher together into one running daemon:
// the registry and its mirror, the proxy, the Views, the DNS and the API.
//
// Each part works on its own; here is only who knows whom, the order in which
// they start and end, and what they tell each other.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/dns"
	"usher/internal/pki"
	"usher/internal/vip"
	"usher/proxy"
	"usher/registry"
	"usher/registry/etcd"
)

// Options are what a daemon is made of.
type Options struct {
	Config  *config.Config
	Version string
	Log     *slog.Logger

	// EtcdCommand returns the command that runs etcd.RunServer in a child
	// process.
	EtcdCommand func(etcd.ServerConfig) *exec.Cmd
}

// A daemon has the parts.
type daemon struct {
	Options
	started time.Time

	client    *etcd.Client
	store     *registry.Store
	mirror    *etcd.Mirror
	views     []*vip.View // of ClusterIPs
	pool      *vip.View   // of load balancers' addresses; nil without
	private   privateViews
	local     atomic.Pointer[registry.Local]
	proxy     *proxy.Proxy
	direct    *directReports
	kubeProxy *kubeProxy
	healthz   *healthz // nil: not asked for
	dns       *dns.Server
	resolvers []*resolver
	writer    *api.Writer
	events    *api.Recorder
	reports   *reporter
	health    *healthChecks
	api       *api.Server

	transparent  error       // why the proxy cannot dial from a client's address
	bootstrapped atomic.Bool // the Services that always exist do
}

// Run runs a daemon until ctx is done, or until a part of it fails.
func Run(ctx context.Context, o Options) error {
	d := &daemon{Options: o, started: time.Now(), store: registry.NewStore()}
	d.direct = newDirectReports(d.store)
	if err := makePrivate(o.Config.DataDir); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	unlock, err := lockDir(o.Config.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := d.open(ctx); err != nil {
		return errors.Join(err, d.close())
	}

	// etcd ends after everything that writes to it.
	registryCtx, stopRegistry := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRegistry()
	var below errgroup.Group
	if d.embedded() {
		below.Go(func() error { return d.superviseEtcd(registryCtx) })
	}
	err = d.serve(ctx)
	stopRegistry()
	return errors.Join(err, below.Wait(), d.close())
}

// makePrivate makes a directory that this user alone can look into.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700)
}

// open opens every socket and makes every part, or fails. Nothing runs yet.
func (d *daemon) open(ctx context.Context) error {
	tokens, err := loadTokens(d.Config.DataDir)
	if err != nil {
		return err
	}
	authority, err := pki.Open(d.Config.DataDir, d.Log)
	if err != nil {
		return err
	}
	if err := makePrivate(d.logDir()); err != nil {
		return fmt.Errorf("make the directory of logs: %w", err)
	}
	if d.client, err = etcd.Dial(ctx, d.etcdConfig()); err != nil {
		return err
	}
	if d.views, err = openViews(d.Config, d.Log); err != nil {
		return err
	}
	d.kubeProxy = newKubeProxy()
	if d.pool, err = openPool(d.Config.Pool, d.Log); err != nil {
		return err
	}
	d.readAddresses()
	d.transparent = proxy.Transparent()
	d.proxy = proxy.New(proxy.Options{
		Store: d.store, Log: d.Log, Listen: d.listen, Show: d.show, Engine: d.Config.Engine,
		Report: func(s proxy.Status) { d.reports.listening(s) }, Observe: d.kubeProxy.observe,
	})
	d.direct.proxy = balances{d.proxy.Open, d.proxy.Elsewhere}
	d.writer = api.NewWriter(api.WriterOptions{
		Client: d.client, Store: d.store, ServiceCIDRs: d.ranges(), NodePorts: d.Config.NodePorts, Pool: d.poolRange(), Applied: d.applied,
	})
	d.events = api.NewRecorder(d.writer, d.Config.NodeName, d.Log)
	d.reports = newReporter(d)
	d.health = newHealthChecks(d)
	d.mirror = &etcd.Mirror{Client: d.client, Store: d.store, Report: d.reports.unreadable, Log: d.Log}
	d.openDNS(ctx)
	if err := d.openHealthz(); err != nil {
		return err
	}
	return d.openAPI(tokens, authority)
}

// openAPI makes the API and opens its sockets.
func (d *daemon) openAPI(tokens map[api.Role]string, authority *pki.Authority) error {
	metrics := prometheus.NewRegistry()
	d.api = api.New(api.Options{
		Store: d.store, Writer: d.writer, Status: d.status, Connections: d.connections, Reports: d.direct, ShowIn: d.showIn, Ready: d.checks(),
		Tokens: tokens, Certify: authority.ServerConfig, TLSOnly: d.Config.TLSOnly,
		Explain: d.explainer().Explain, Logs: d.logs,
		ClusterDomain: d.Config.ClusterDomain, Hosts: slices.Concat(d.apiAddresses(), d.Config.Hosts),
		Views: d.localAddresses, Ejections: d.ejections, Version: versionInfo(d.Version),
		Metrics:    promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}),
		Registerer: metrics, Log: d.Log,
	})
	metrics.MustRegister(collectors(d)...)
	if err := d.api.ListenUnix(d.Config.Socket); err != nil {
		return err
	}
	if d.Config.Listen == "" {
		return nil
	}
	return d.api.ListenControl(d.Config.Listen)
}

// serve runs the parts until ctx is done or one of them fails.
func (d *daemon) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	run := func(name string, part func(context.Context) error) {
		g.Go(func() error {
			if err := part(ctx); err != nil && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	run("mirror", d.mirror.Run)
	run("proxy", d.proxy.Run)
	run("api", d.api.Serve)
	for _, r := range d.resolvers {
		run("dns", func(ctx context.Context) error { return r.serve(ctx, d) })
	}
	if d.healthz != nil {
		run("healthz", d.healthz.serve)
	}
	run("bootstrap", d.bootstrap)
	run("repair", d.repair)
	run("addresses", d.followAddresses)
	run("load balancers", d.balance)
	run("health checks", d.health.run)
	run("events", d.events.Run)
	run("conditions", d.reports.run)
	run("memory", d.returnMemory)
	run("loads", d.direct.share)
	return g.Wait()
}

// close gives back what open took. The parts that ran closed their own
// sockets.
func (d *daemon) close() error {
	var errs []error
	for _, r := range d.resolvers {
		errs = append(errs, r.close())
	}
	if d.healthz != nil {
		d.healthz.listener.Close() // which it did if it served
	}
	if d.api != nil {
		errs = append(errs, d.api.Close())
	}
	for _, v := range d.allViews() {
		errs = append(errs, v.Close())
	}
	if d.client != nil {
		errs = append(errs, d.client.Close())
	}
	return errors.Join(errs...)
}

// ranges returns the service CIDRs as ranges to allocate from.
func (d *daemon) ranges() []registry.IPRange {
	var ranges []registry.IPRange
	for _, prefix := range d.Config.ServiceCIDRs {
		ranges = append(ranges, registry.NewIPRange(prefix))
	}
	return ranges
}

// applied waits until the Store and the proxy have reached revision.
func (d *daemon) applied(ctx context.Context, revision int64) error {
	if err := d.store.WaitRevision(ctx, revision); err != nil {
		return err
	}
	return d.proxy.WaitRevision(ctx, revision)
}

// checks returns what has to be for this node to serve. Names are the API
// server's where it has them.
func (d *daemon) checks() []api.Check {
	after := func(done <-chan struct{}, missing string) func() error {
		return func() error {
			select {
			case <-done:
				return nil
			default:
				return errors.New(missing)
			}
		}
	}
	return []api.Check{
		{Name: "informer-sync", Fails: after(d.store.Synced(), "the registry has not been read yet")},
		{Name: "proxy", Fails: after(d.proxy.Synced(), "listeners are not open yet")},
		{Name: "bootstrap", Fails: func() error {
			if !d.bootstrapped.Load() {
				return errors.New("the Services kubernetes and kube-dns are not there yet")
			}
			return nil
		}},
	}
}

// ready says what is missing for this node to serve, or nil.
func (d *daemon) ready() error {
	for _, c := range d.checks() {
		if err := c.Fails(); err != nil {
			return err
		}
	}
	return nil
}

// serviceIP returns the address of the service CIDR at an offset.
func (d *daemon) serviceIP(offset uint64) netip.Addr { return d.ranges()[0].At(offset) }
