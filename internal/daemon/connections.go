package daemon

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/api"
	"usher/proxy"
	"usher/registry"
)

// The paths of a Connection.
const (
	pathDirect = string(registry.PathDirect)
	pathProxy  = string(registry.PathProxy)
)

// connections lists what is open, in the order of Services and then of age.
func (d *daemon) connections(ctx context.Context, q api.ConnectionQuery) (api.ConnectionList, error) {
	want := func(namespace, service string) bool {
		return (q.Namespace == "" || q.Namespace == namespace) && (len(q.Services) == 0 || slices.Contains(q.Services, service))
	}
	found, more, err := d.proxy.Connections(ctx, q.Limit, func(f *registry.Frontend) bool {
		return want(f.Service.Namespace, f.Service.Name)
	})
	if err != nil {
		return api.ConnectionList{}, err
	}
	d.direct.refresh(ctx)
	list := api.ConnectionList{Items: d.direct.connections(want)}
	for _, c := range found {
		list.Items = append(list.Items, proxiedConnection(c))
	}
	slices.SortFunc(list.Items, func(a, b api.Connection) int {
		return cmp.Or(
			cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service),
			a.StartTime.Compare(b.StartTime.Time), cmp.Compare(a.Client, b.Client),
		)
	})
	if beyond := len(list.Items) - q.Limit; beyond > 0 {
		list.Items = list.Items[:q.Limit]
		more += beyond
	}
	if more > 0 {
		list.RemainingItemCount = new(int64(more))
	}
	return list, nil
}

func proxiedConnection(c proxy.Connection) api.Connection {
	f := c.Frontend
	return api.Connection{
		Namespace: f.Service.Namespace, Service: f.Service.Name, PortName: f.PortName, Protocol: string(f.Protocol),
		Client: addressText(c.Client), VIP: f.AddrPort().String(), Listener: c.Listener.String(),
		Backend: addressText(c.Backend.Address), Pod: c.Backend.Pod, Node: c.Backend.Node,
		StartTime: metav1.Time{Time: c.Started.UTC()}, BytesUp: c.BytesUp, BytesDown: c.BytesDown, State: string(c.State),
		Path: pathProxy,
	}
}

// addressText spells an address, and none as "".
func addressText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
