package api

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"

	"usher/registry"
)

// What a column says that has nothing to say, and one that does not know.
const (
	none    = "<none>"
	unknown = "<unknown>"
)

// A printing is what it takes to show objects as the rows of a Table. The
// columns are Kubernetes' (pkg/printers/internalversion), and a few more.
type printing struct {
	store    *registry.Store
	snapshot *registry.Snapshot // if nil, the present one
	views    func(registry.FrontendKey) []netip.AddrPort
	include  metav1.IncludeObjectPolicy
	now      time.Time // if zero, the present time
}

// printing reads what a request says about Tables.
func (s *Server) printing(r *http.Request) (printing, error) {
	include := metav1.IncludeObjectPolicy(cmp.Or(r.URL.Query().Get("includeObject"), string(metav1.IncludeMetadata)))
	switch include {
	case metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
	default:
		return printing{}, apierrors.NewBadRequest(fmt.Sprintf(
			"includeObject must be 'None', 'Metadata' or 'Object', not %q", include))
	}
	return printing{store: s.opts.Store, views: s.opts.Views, include: include}, nil
}

// table returns objects of one Kind as a Table.
func (p printing) table(k *registry.Kind, objects ...registry.Object) metav1.Table {
	if p.snapshot == nil {
		p.snapshot = p.store.Snapshot()
	}
	if p.now.IsZero() {
		p.now = time.Now()
	}
	if k == registry.Events {
		objects = slices.Clone(objects)
		slices.SortStableFunc(objects, func(a, b registry.Object) int {
			return lastSeen(a.(*corev1.Event)).Compare(lastSeen(b.(*corev1.Event)))
		})
	}
	t := metav1.Table{
		TypeMeta:          metav1.TypeMeta{Kind: "Table", APIVersion: "meta.k8s.io/v1"},
		ColumnDefinitions: columns(k),
		Rows:              []metav1.TableRow{},
	}
	for _, obj := range objects {
		t.Rows = append(t.Rows, metav1.TableRow{Cells: p.cells(obj), Object: p.included(obj)})
	}
	return t
}

// included returns what of obj goes along with its row.
func (p printing) included(obj registry.Object) runtime.RawExtension {
	switch p.include {
	case metav1.IncludeObject:
		return runtime.RawExtension{Object: obj}
	case metav1.IncludeMetadata:
		part := meta.AsPartialObjectMetadata(obj)
		part.TypeMeta = metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: "meta.k8s.io/v1"}
		return runtime.RawExtension{Object: part}
	}
	return runtime.RawExtension{}
}

// columns returns the columns of a Kind. Those in brackets are for wide
// output.
func columns(k *registry.Kind) []metav1.TableColumnDefinition {
	switch k {
	case registry.Services:
		return parseColumns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Ready", "Age", "[Selector]", "[Local]", "[Endpoints]")
	case registry.Pods:
		return parseColumns("Name", "Ready", "Status", "Restarts", "Age", "[IP]", "[Node]", "[Nominated Node]", "[Readiness Gates]")
	case registry.EndpointSlices:
		return parseColumns("Name", "AddressType", "Ports", "Endpoints", "Age")
	case registry.Endpoints:
		return parseColumns("Name", "Endpoints", "Age")
	case registry.Namespaces:
		return parseColumns("Name", "Status", "Age")
	case registry.Nodes:
		return parseColumns("Name", "Status", "Roles", "Age", "Version", "[Internal-IP]", "[External-IP]", "[OS-Image]", "[Kernel-Version]", "[Container-Runtime]")
	case registry.Events:
		return parseColumns("Last Seen", "Type", "Reason", "Object", "[Subobject]", "[Source]", "Message", "[First Seen]", "[Count]", "[Name]")
	case registry.IPAddresses, registry.NodePorts:
		return parseColumns("Name", "ParentRef")
	case registry.ServiceCIDRs:
		return parseColumns("Name", "CIDRs", "Age")
	}
	panic("api: no columns for " + k.Kind)
}

func parseColumns(names ...string) []metav1.TableColumnDefinition {
	list := make([]metav1.TableColumnDefinition, len(names))
	for i, name := range names {
		c := metav1.TableColumnDefinition{Name: strings.Trim(name, "[]"), Type: "string"}
		if c.Name != name {
			c.Priority = 1
		}
		if c.Name == "Name" {
			c.Format = "name"
		}
		list[i] = c
	}
	return list
}

// cells returns the row of obj, a cell for each of its columns.
func (p printing) cells(obj registry.Object) []any {
	switch obj := obj.(type) {
	case *corev1.Service:
		return p.serviceCells(obj)
	case *corev1.Pod:
		return p.podCells(obj)
	case *discoveryv1.EndpointSlice:
		return []any{obj.Name, string(obj.AddressType), slicePorts(obj), sliceAddresses(obj), p.age(obj.CreationTimestamp)}
	case *corev1.Endpoints:
		return []any{obj.Name, endpointsAddresses(obj), p.age(obj.CreationTimestamp)}
	case *corev1.Namespace:
		return []any{obj.Name, string(obj.Status.Phase), p.age(obj.CreationTimestamp)}
	case *corev1.Node:
		return p.nodeCells(obj)
	case *corev1.Event:
		return p.eventCells(obj)
	case *networkingv1.IPAddress:
		return []any{obj.Name, parentRef(obj.Spec.ParentRef)}
	case *registry.NodePort:
		return []any{obj.Name, parentRef(obj.Spec.ParentRef)}
	case *networkingv1.ServiceCIDR:
		return []any{obj.Name, strings.Join(obj.Spec.CIDRs, ","), p.age(obj.CreationTimestamp)}
	}
	panic(fmt.Sprintf("api: no cells for %T", obj))
}

// age says how long ago t was.
func (p printing) age(t metav1.Time) string { return p.since(t.Time) }

func (p printing) since(t time.Time) string {
	if t.IsZero() {
		return unknown
	}
	return duration.HumanDuration(p.now.Sub(t))
}

// shown is how many elements of a list a cell shows.
const shown = 3

// abbreviate returns the first elements of a list and how many more there
// are, or absent if there are none.
func abbreviate(list []string, absent string) string {
	switch {
	case len(list) == 0:
		return absent
	case len(list) <= shown:
		return strings.Join(list, ",")
	}
	return fmt.Sprintf("%s + %d more...", strings.Join(list[:shown], ","), len(list)-shown)
}
