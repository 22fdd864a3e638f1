package api

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"usher/registry"
	"usher/registry/etcd"
)

// TestRepair takes claims away, and puts some where they do not belong, as a
// restored backup does.
func TestRepair(t *testing.T) {
	s := newRegistryServer(t)
	h, w := s.Handler(), s.opts.Writer
	pass := func() []string {
		var said []string
		err := w.Repair(t.Context(), func(about registry.Object, reason, message string) {
			said = append(said, about.GetName()+" "+reason+" "+message)
		})
		if err != nil {
			t.Fatal(err)
		}
		return said
	}
	do(t, h, "POST", financeServices, withSpec("a", `"type":"NodePort","clusterIP":"10.96.7.7","ports":[{"port":80,"nodePort":30001}]`), 201)
	do(t, h, "POST", financeServices, claimingService("b", "10.96.7.8", ""), 201)
	if said := pass(); len(said) > 0 {
		t.Errorf("nothing to mend: %q", said)
	}

	b := s.opts.Store.Snapshot().Service("finance", "b").DeepCopy()
	doubled := b.DeepCopy()
	doubled.Name = "c"
	none := registry.Services.New().(*corev1.Service)
	none.Namespace, none.Name = "finance", "gone"
	leaked, wrong := claimKeyOf("10.96.7.9"), claimKeyOf("10.96.7.7")
	revision, err := w.Client.Commit(t.Context(),
		etcd.Op{Key: portKey(30001), Revision: etcd.Any},
		etcd.Op{Key: wrong, Object: newClaim(wrong, none), Revision: etcd.Any},
		etcd.Op{Key: leaked, Object: newClaim(leaked, none), Revision: etcd.Any},
		etcd.Op{Key: registry.KeyOf(doubled), Object: doubled, Revision: etcd.Any})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.opts.Store.WaitRevision(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a ClusterIPNotAllocated Cluster IP [IPv4]: 10.96.7.7 has a wrong reference; repairing",
		"a ClusterIPNotAllocated Port 30001 is not allocated; repairing",
		"c ClusterIPAlreadyAllocated Cluster IP [IPv4]: 10.96.7.8 was assigned to multiple services; please recreate service",
		"10.96.7.9 IPAddressNotAllocated IPAddress: 10.96.7.9 for Service finance/gone appears to have leaked: cleaning up",
	}
	if diff := cmp.Diff(want, pass()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	do(t, h, "GET", ipAddresses+"/10.96.7.9", "", 404)
	do(t, h, "GET", nodePorts+"/30001", "", 200)
	if said := pass(); len(said) != 1 || !strings.HasPrefix(said[0], "c ClusterIPAlreadyAllocated") {
		t.Errorf("a second pass: %q", said)
	}
	do(t, h, "DELETE", financeServices+"/c", "", 200)
	do(t, h, "GET", ipAddresses+"/10.96.7.8", "", 200) // b's
	if said := pass(); len(said) > 0 {
		t.Errorf("after c is gone: %q", said)
	}
}

func claimKeyOf(ip string) registry.Key {
	return registry.Key{Kind: registry.IPAddresses, Name: ip}
}
