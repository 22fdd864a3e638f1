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

// connections lists what is open, in the order of Services and then of age.
func (d *daemon) connections(ctx context.Context, q api.ConnectionQuery) (api.ConnectionList, error) {
	found, more, err := d.proxy.Connections(ctx, q.Limit, func(f *registry.Frontend) bool {
		return (q.Namespace == "" || q.Namespace == f.Service.Namespace) &&
			(len(q.Services) == 0 || slices.Contains(q.Services, f.Service.Name))
	})
	if err != nil {
		return api.ConnectionList{}, err
	}
	slices.SortFunc(found, func(a, b proxy.Connection) int {
		return cmp.Or(
			cmp.Compare(a.Frontend.Service.Namespace, b.Frontend.Service.Namespace),
			cmp.Compare(a.Frontend.Service.Name, b.Frontend.Service.Name),
			a.Started.Compare(b.Started), a.Client.Compare(b.Client),
		)
	})
	list := api.ConnectionList{Items: make([]api.Connection, len(found))}
	for i, c := range found {
		f := c.Frontend
		list.Items[i] = api.Connection{
			Namespace: f.Service.Namespace, Service: f.Service.Name, PortName: f.PortName, Protocol: string(f.Protocol),
			Client: addressText(c.Client), VIP: f.AddrPort().String(), Listener: c.Listener.String(),
			Backend: addressText(c.Backend.Address), Pod: c.Backend.Pod, Node: c.Backend.Node,
			StartTime: metav1.Time{Time: c.Started.UTC()}, BytesUp: c.BytesUp, BytesDown: c.BytesDown, State: string(c.State),
		}
	}
	if more > 0 {
		list.RemainingItemCount = new(int64(more))
	}
	return list, nil
}

// addressText spells an address, and none as "".
func addressText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
