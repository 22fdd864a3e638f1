package daemon

import (
	"cmp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/api"
)

// ejections lists the Backends that the proxy tries last.
func (d *daemon) ejections() []api.Ejection {
	var list []api.Ejection
	for e := range d.proxy.Ejections() {
		f := e.Frontend
		list = append(list, api.Ejection{
			Namespace: f.Service.Namespace, Service: f.Service.Name, PortName: f.PortName, Protocol: string(f.Protocol),
			VIP: f.AddrPort().String(), Backend: e.Backend.Address.String(), Pod: e.Backend.Pod,
			Since: metav1.Time{Time: e.Since.UTC()}, Until: metav1.Time{Time: e.Until.UTC()}, Error: e.Err.Error(),
		})
	}
	slices.SortFunc(list, func(a, b api.Ejection) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service),
			cmp.Compare(a.VIP, b.VIP), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Backend, b.Backend))
	})
	return list
}
