package api

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
)

var tableNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// aged makes obj that old at tableNow.
func aged[T registry.Object](age time.Duration, obj T) T {
	obj.SetCreationTimestamp(metav1.Time{Time: tableNow.Add(-age)})
	return obj
}

// tableObjects are a bit of everything.
func tableObjects() []registry.Object {
	pay := aged(3*time.Hour, service("finance", "pay", "10.96.143.7"))
	pay.Spec.Ports = append(pay.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP, NodePort: 30053})
	headless := aged(90*time.Second, service("finance", "headless", corev1.ClusterIPNone))
	headless.Spec.Selector = nil
	empty := service("finance", "empty", "10.96.1.1")
	empty.Spec.ExternalIPs = []string{"192.0.2.1", "192.0.2.2"}
	external := aged(72*time.Hour, service("finance", "far", ""))
	external.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}
	balanced := service("finance", "lb", "10.96.1.2")
	balanced.Spec.Type, balanced.Spec.Selector = corev1.ServiceTypeLoadBalancer, nil

	leaving := aged(time.Minute, pod("finance", "pay-3", "pay", "127.244.0.3", true))
	leaving.DeletionTimestamp = &metav1.Time{Time: tableNow}
	crashed := aged(time.Minute, pod("finance", "pay-4", "pay", "127.244.0.4", false))
	crashed.Spec.NodeName = "laptop"
	crashed.Status.ContainerStatuses = []corev1.ContainerStatus{{
		RestartCount: 4, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
	}}
	done := aged(time.Minute, pod("finance", "job", "job", "", false))
	done.Status.Phase = corev1.PodSucceeded
	done.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed"}}}}

	manual := aged(time.Hour, registry.EndpointSlices.New().(*discoveryv1.EndpointSlice))
	manual.Namespace, manual.Name, manual.AddressType = "finance", "headless-x", discoveryv1.AddressTypeIPv4
	manual.Labels = map[string]string{discoveryv1.LabelServiceName: "headless"}
	for i := range 5 {
		manual.Endpoints = append(manual.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("127.0.1.%d", i)}, Conditions: discoveryv1.EndpointConditions{Ready: new(i != 0)},
		})
	}
	manual.Ports = []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(80))}, {Name: new("any")}, {}}
	legacy := aged(time.Hour, registry.Endpoints.New().(*corev1.Endpoints))
	legacy.Namespace, legacy.Name = "finance", "lb"
	legacy.Subsets = []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: "127.0.2.1"}, {IP: "127.0.2.2"}},
		Ports:     []corev1.EndpointPort{{Name: "a", Port: 1, Protocol: "TCP"}, {Name: "b", Port: 2, Protocol: "TCP"}},
	}}
	gated := aged(time.Hour, pod("finance", "pay-1", "pay", "127.244.0.1", true))
	gated.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "a"}, {ConditionType: "b"}}
	gated.Status.Conditions = append(gated.Status.Conditions, corev1.PodCondition{Type: "b", Status: corev1.ConditionTrue})
	return append([]registry.Object{
		pay, headless, empty, external, balanced, manual, legacy, gated,
		aged(time.Hour, pod("finance", "pay-2", "pay", "127.244.0.2", false)), leaving, crashed, done,
		aged(time.Hour, namespace("finance")),
	}, clusterObjects()...)
}

func clusterObjects() []registry.Object {
	laptop := aged(time.Hour, registry.Nodes.New().(*corev1.Node))
	laptop.Name, laptop.Labels = "laptop", map[string]string{"node-role.kubernetes.io/control-plane": "", "node-role.kubernetes.io/": "x"}
	laptop.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	laptop.Status.NodeInfo.KubeletVersion = "v1.37.0+usher"
	laptop.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeExternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeInternalIP, Address: "127.0.0.1"},
	}
	laptop.Status.NodeInfo.OSImage, laptop.Status.NodeInfo.KernelVersion = "Debian", "6.1"
	desktop := aged(time.Hour, registry.Nodes.New().(*corev1.Node))
	desktop.Name, desktop.Spec.Unschedulable = "desktop", true

	var events []registry.Object
	for name, age := range map[string]time.Duration{"old": time.Hour, "new": time.Minute} {
		ev := registry.Events.New().(*corev1.Event)
		ev.Namespace, ev.Name, ev.Type, ev.Reason, ev.Message = "finance", name, "Warning", "PortInUse", " port 80 is in use\n"
		ev.InvolvedObject = corev1.ObjectReference{Kind: "Service", Name: "pay", FieldPath: "spec.ports"}
		ev.EventTime = metav1.MicroTime{Time: tableNow.Add(-2 * time.Hour)}
		ev.LastTimestamp = metav1.Time{Time: tableNow.Add(-age)}
		ev.Source = corev1.EventSource{Component: "usher", Host: "laptop"}
		events = append(events, ev)
	}
	ip := registry.IPAddresses.New().(*networkingv1.IPAddress)
	ip.Name = "10.96.143.7"
	ip.Spec.ParentRef = &networkingv1.ParentReference{Resource: "services", Namespace: "finance", Name: "pay"}
	return append(events, laptop, desktop, ip)
}

const wantTables = `
# services
NAME      TYPE          CLUSTER-IP   EXTERNAL-IP          PORT(S)             READY   AGE        [SELECTOR]  [LOCAL]                                  [ENDPOINTS]
empty     ClusterIP     10.96.1.1    192.0.2.1,192.0.2.2  80/TCP              0/0     <unknown>  app=empty   127.96.1.1:8080                          <none>
far       ExternalName  <none>       example.com          <none>              <none>  3d         <none>      <none>                                   <none>
headless  ClusterIP     None         <none>               80/TCP              4/5     90s        <none>      <none>                                   127.0.1.1:80,127.0.1.2:80,127.0.1.3:80 + 1 more...
lb        LoadBalancer  10.96.1.2    <pending>            80/TCP              2/2     <unknown>  <none>      127.96.1.2:8080                          127.0.2.1:1,127.0.2.1:2,127.0.2.2:1 + 1 more...
pay       ClusterIP     10.96.143.7  <none>               80/TCP,53:30053/UDP 1/4     3h         app=pay     127.96.143.7:8053,127.96.143.7:8080      127.244.0.1:53,127.244.0.1:8080
# pods
NAME   READY  STATUS            RESTARTS  AGE  [IP]         [NODE]  [NOMINATED NODE]  [READINESS GATES]
job    0/1    Completed         0         60s  <none>       <none>  <none>            <none>
pay-1  1/1    Running           0         60m  127.244.0.1  <none>  <none>            1/2
pay-2  0/1    Running           0         60m  127.244.0.2  <none>  <none>            <none>
pay-3  1/1    Terminating       0         60s  127.244.0.3  <none>  <none>            <none>
pay-4  0/1    CrashLoopBackOff  4         60s  127.244.0.4  laptop  <none>            <none>
# endpoints
NAME  ENDPOINTS                                        AGE
lb    127.0.2.1:1,127.0.2.2:1,127.0.2.1:2 + 1 more...  60m
# events
LAST SEEN  TYPE     REASON     OBJECT       [SUBOBJECT]  [SOURCE]       MESSAGE            [FIRST SEEN]  [COUNT]  [NAME]
60m        Warning  PortInUse  service/pay  spec.ports   usher, laptop  port 80 is in use  120m          1        old
60s        Warning  PortInUse  service/pay  spec.ports   usher, laptop  port 80 is in use  120m          1        new
# namespaces
NAME     STATUS  AGE
finance  Active  60m
# nodes
NAME     STATUS                      ROLES          AGE  VERSION        [INTERNAL-IP]  [EXTERNAL-IP]  [OS-IMAGE]  [KERNEL-VERSION]  [CONTAINER-RUNTIME]
desktop  Unknown,SchedulingDisabled  <none>         60m                 <none>         <none>         <unknown>   <unknown>         <unknown>
laptop   Ready                       control-plane  60m  v1.37.0+usher  127.0.0.1      192.0.2.1      Debian      6.1               <unknown>
# ipaddresses
NAME         PARENTREF
10.96.143.7  services/finance/pay
# servicecidrs
NAME  CIDRS  AGE
# nodeports
NAME  PARENTREF
`

func TestTables(t *testing.T) {
	s, store := newTestServer(t, 9, tableObjects()...)
	p := printing{store: store, views: s.opts.Views, now: tableNow}
	var got strings.Builder
	got.WriteString("\n")
	for _, k := range registry.Kinds {
		if k == registry.EndpointSlices {
			continue // some of the names are made up: TestSliceTable
		}
		var objects []registry.Object
		for obj := range store.Snapshot().List(k, "") {
			objects = append(objects, obj)
		}
		fmt.Fprintf(&got, "# %s\n%s", k.Resource, render(p.table(k, objects...)))
	}
	want := squeeze(wantTables)
	if diff := cmp.Diff(want, squeeze(got.String())); diff != "" {
		t.Errorf("tables (-want +got):\n%s\n%s", diff, got.String())
	}
}

func TestSliceTable(t *testing.T) {
	s, store := newTestServer(t, 9, tableObjects()...)
	p := printing{store: store, views: s.opts.Views, now: tableNow}
	obj := store.Snapshot().Get(registry.Key{Kind: registry.EndpointSlices, Namespace: "finance", Name: "headless-x"})
	want := squeeze("NAME ADDRESSTYPE PORTS ENDPOINTS AGE\nheadless-x IPv4 80,any,* 127.0.1.0,127.0.1.1,127.0.1.2 + 2 more... 60m\n")
	if diff := cmp.Diff(want, squeeze(render(p.table(registry.EndpointSlices, obj)))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A Pod with an address in each IP family is one endpoint.
func TestReadyDualStack(t *testing.T) {
	svc := service("x", "a", "10.96.1.1")
	svc.Spec.Selector = nil
	objects := []registry.Object{svc}
	for family, ip := range map[discoveryv1.AddressType]string{discoveryv1.AddressTypeIPv4: "127.0.0.1", discoveryv1.AddressTypeIPv6: "::1"} {
		s := registry.EndpointSlices.New().(*discoveryv1.EndpointSlice)
		s.Namespace, s.Name, s.AddressType = "x", strings.ToLower(string(family)), family
		s.Labels = map[string]string{discoveryv1.LabelServiceName: "a"}
		s.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{ip}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "p"}}}
		s.Ports = []discoveryv1.EndpointPort{{Port: new(int32(80))}}
		objects = append(objects, s)
	}
	_, store := newTestServer(t, 9, objects...)
	count, addresses := printing{snapshot: store.Snapshot()}.endpoints(svc)
	if diff := cmp.Diff([]string{"1/1", "127.0.0.1:80", "[::1]:80"}, append([]string{count}, addresses...)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Every Kind has as many cells as columns, also of an empty object.
func TestTableShape(t *testing.T) {
	_, store := newTestServer(t, 9)
	for _, k := range registry.Kinds {
		table := printing{store: store}.table(k, k.New())
		if len(table.Rows) != 1 || len(table.Rows[0].Cells) != len(table.ColumnDefinitions) {
			t.Errorf("%s: %d columns, row %v", k.Kind, len(table.ColumnDefinitions), table.Rows)
		}
	}
}

func TestTableAnswers(t *testing.T) {
	const accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
	s, _ := newTestServer(t, 9, at(5, service("finance", "pay", "10.96.143.7")))
	tests := []struct {
		url, object, version string
	}{
		{"/api/v1/services", "PartialObjectMetadata", "9"},
		{"/api/v1/services?includeObject=Metadata", "PartialObjectMetadata", "9"},
		{"/api/v1/services?includeObject=Object", "Service", "9"},
		{"/api/v1/services?includeObject=None", "", "9"},
		{"/api/v1/namespaces/finance/services/pay", "PartialObjectMetadata", "5"},
	}
	for _, tt := range tests {
		got := ask(t, s.Handler(), "GET", tt.url, "", "Accept", accept)
		table := decode[metav1.Table](t, got.body)
		if len(table.Rows) != 1 || table.Kind != "Table" || table.APIVersion != "meta.k8s.io/v1" || table.ResourceVersion != tt.version {
			t.Errorf("%s: %s", tt.url, got.body)
			continue
		}
		var object metav1.PartialObjectMetadata
		if raw := table.Rows[0].Object.Raw; string(raw) != "null" && len(raw) > 0 {
			object = decode[metav1.PartialObjectMetadata](t, string(raw))
		}
		if object.Kind != tt.object || tt.object != "" && (object.Name != "pay" || object.Namespace != "finance") {
			t.Errorf("%s: the row has %+v, want a %q", tt.url, object, tt.object)
		}
	}
	empty := decode[metav1.Table](t, ask(t, s.Handler(), "GET", "/api/v1/pods", "", "Accept", accept).body)
	if empty.Rows == nil || len(empty.ColumnDefinitions) == 0 {
		t.Errorf("an empty table: %+v", empty)
	}
}

// render writes a table as text, the wide columns in brackets.
func render(table metav1.Table) string {
	var buf bytes.Buffer
	w := tabwriter.NewWriter(&buf, 0, 8, 2, ' ', 0)
	for i, c := range table.ColumnDefinitions {
		name := strings.ToUpper(c.Name)
		if c.Priority > 0 {
			name = "[" + name + "]"
		}
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, name)
	}
	fmt.Fprintln(w)
	for _, row := range table.Rows {
		for i, cell := range row.Cells {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, cell)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	return buf.String()
}

// squeeze makes each run of spaces one.
func squeeze(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	return strings.Join(lines, "\n")
}
