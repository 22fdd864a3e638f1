package daemon

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	prom "github.com/prometheus/client_golang/prometheus/collectors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiversion "k8s.io/apimachinery/pkg/version"

	"usher/internal/api"
	"usher/registry"
)

// status describes the daemon.
func (d *daemon) status() api.Status {
	snapshot := d.store.Snapshot()
	s := api.Status{
		TypeMeta:     metav1.TypeMeta{Kind: "Status", APIVersion: api.Group + "/" + api.Version},
		UsherVersion: d.Version, NodeName: d.Config.NodeName, ClusterDomain: d.Config.ClusterDomain,
		PID: os.Getpid(), Revision: snapshot.Revision(), Registry: d.registryStatus(), API: d.api.Addresses(), DataDir: d.Config.DataDir,
	}
	ranges := slices.Clone(d.Config.ServiceCIDRs)
	for prefix := range serviceCIDRs(snapshot) {
		if !slices.Contains(ranges, prefix) {
			ranges = append(ranges, prefix)
		}
	}
	for _, prefix := range ranges {
		s.ServiceCIDR = append(s.ServiceCIDR, prefix.String())
	}
	for _, v := range d.views {
		vs := api.ViewStatus{Name: v.Name(), CIDR: v.CIDR(), NetNS: v.NetNS(), FirstPort: v.FirstPort(), Why: v.Why()}
		vs.Nameserver = d.nameserver(v.Name())
		s.Views = append(s.Views, vs)
	}
	for _, v := range d.private.list() {
		s.Views = append(s.Views, api.ViewStatus{
			Name: v.Name(), CIDR: v.CIDR(), NetNS: v.NetNS(), Nameserver: v.nameserver.String(), Why: v.Why(),
		})
	}
	backends := make(map[registry.Backend]bool)
	for f := range snapshot.Frontends() {
		for _, b := range f.Backends {
			backends[b] = true
		}
	}
	s.Backends = len(backends)
	for svc := range snapshot.Services("") {
		s.Services++
		for _, c := range svc.Status.Conditions {
			if c.Status == metav1.ConditionFalse {
				s.Conditions = append(s.Conditions, fmt.Sprintf("service/%s -n %s: %s", svc.Name, svc.Namespace, c.Message))
			}
		}
	}
	if err := d.ready(); err != nil {
		s.Conditions = append(s.Conditions, err.Error())
	}
	slices.Sort(s.Conditions)
	return s
}

// versionInfo is the answer at /version. Its numbers are those of the
// Kubernetes whose types usher speaks.
func versionInfo(v string) apiversion.Info {
	return apiversion.Info{
		Major: "1", Minor: "37", GitVersion: "v1.37.2+usher-" + strings.TrimPrefix(v, "v"),
		GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// collectors returns what is measured besides the API's own requests.
func collectors(d *daemon) []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "usher", Name: name, Help: help}, value)
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "usher", Name: "build_info", Help: "Always 1; the label has the version.",
		ConstLabels: prometheus.Labels{"version": d.Version},
	})
	info.Set(1)
	return append(d.kubeProxy.collectors(d.proxy.Progress),
		prom.NewGoCollector(), prom.NewProcessCollector(prom.ProcessCollectorOpts{}), info,
		gauge("store_revision", "The etcd revision that this node has reached.", func() float64 {
			return float64(d.store.Snapshot().Revision())
		}),
		proxyCollector{d.proxy, d.direct}, localPolicyCollector{d.store}, dnsCollector{d.dns}, d.writer,
	)
}
