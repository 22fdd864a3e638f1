package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
)

func TestDescribe(t *testing.T) {
	f := newFake(t, finance+`
---
apiVersion: v1
kind: Endpoints
metadata: {name: byhand, namespace: finance}
subsets: [{addresses: [{ip: 10.1.0.7}, {ip: 10.1.0.8}], ports: [{port: 3001, protocol: TCP}]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: slice, namespace: finance}
addressType: IPv4
ports: [{name: http, port: 3001, protocol: TCP}]
endpoints: [{addresses: [10.1.0.9], conditions: {ready: false}, nodeName: node-1}]
---
apiVersion: v1
kind: Node
metadata: {name: node-1}
status: {addresses: [{type: InternalIP, address: 127.0.0.1}], nodeInfo: {operatingSystem: linux, architecture: amd64, kubeletVersion: v1}}
---
apiVersion: v1
kind: Service
metadata: {name: balanced, namespace: finance}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.9
  clusterIPs: [10.96.0.9]
  ipFamilies: [IPv4]
  ipFamilyPolicy: SingleStack
  loadBalancerIP: 127.240.0.5
  loadBalancerSourceRanges: [10.0.0.0/8]
  externalTrafficPolicy: Local
  healthCheckNodePort: 30007
  trafficDistribution: PreferSameZone
  ports: [{port: 80, nodePort: 30080, appProtocol: kubernetes.io/h2c}]
status: {loadBalancer: {ingress: [{ip: 127.240.0.5, ipMode: VIP}, {hostname: a.example}]}}
---
apiVersion: networking.k8s.io/v1
kind: IPAddress
metadata: {name: 10.96.0.1}
spec: {parentRef: {resource: services, namespace: default, name: kubernetes}}
`)
	f.put(&corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "finance"}, InvolvedObject: corev1.ObjectReference{Kind: "Service", Namespace: "finance", Name: "empty"},
		Type: "Warning", Reason: "PortInUse", Message: "another program listens on port 80\n", Source: corev1.EventSource{Component: "usher"},
		Count: 3, FirstTimestamp: metav1.Time{Time: time.Now().Add(-50 * time.Hour)}, LastTimestamp: metav1.Time{Time: time.Now().Add(-26 * time.Hour)},
	})
	tests := map[string]string{
		"svc payment-service": `Name:                     payment-service
Namespace:                finance
Labels:                   app=payment
                          tier=back
Annotations:              note: hi there
Selector:                 app=payment
Type:                     ClusterIP
IP Family Policy:         SingleStack
IP Families:              IPv4
IP:                       10.96.37.195
IPs:                      10.96.37.195
Port:                     http  80/TCP
TargetPort:               8080/TCP
Endpoints:                10.1.0.5:8080
Not Used:                 10.1.0.6:8080 (pod p2): not ready: not yet
Port:                     dns  53/UDP
TargetPort:               dns/UDP
Endpoints:                10.1.0.5:5353
Not Used:                 10.1.0.6 (pod p2): the pod has no UDP port "dns"
Session Affinity:         None
Internal Traffic Policy:  Cluster
Events:                   <none>
`,
		"svc empty": `Name:                     empty
Namespace:                finance
Labels:                   <none>
Annotations:              <none>
Selector:                 <none>
Type:                     ClusterIP
IP Family Policy:         SingleStack
IP Families:              IPv4
IP:                       10.96.111.62
IPs:                      10.96.111.62
Port:                     <unset>  80/TCP
TargetPort:               80/TCP
Endpoints:                <none>
Session Affinity:         None
Internal Traffic Policy:  Cluster
Events:
  Type     Reason     Age                 From   Message
  ----     ------     ---                 ----   -------
  Warning  PortInUse  26h (x3 over 2d2h)  usher  another program listens on port 80
`,
		"svc balanced": `Name:                        balanced
Namespace:                   finance
Labels:                      <none>
Annotations:                 <none>
Selector:                    <none>
Type:                        LoadBalancer
IP Family Policy:            SingleStack
IP Families:                 IPv4
IP:                          10.96.0.9
IPs:                         10.96.0.9
Desired LoadBalancer IP:     127.240.0.5
LoadBalancer Ingress:        127.240.0.5 (VIP), a.example
Port:                        <unset>  80/TCP
TargetPort:                  80/TCP
AppProtocol:                 kubernetes.io/h2c
NodePort:                    <unset>  30080/TCP
Endpoints:                   <none>
Session Affinity:            None
External Traffic Policy:     Local
Internal Traffic Policy:     Cluster
HealthCheck NodePort:        30007
LoadBalancer Source Ranges:  10.0.0.0/8
Traffic Distribution:        PreferSameZone
Events:                      <none>
`,
		"pod p2": `Name:         p2
Namespace:    finance
Node:         <none>
Labels:       app=payment
Annotations:  <none>
Status:       Running
IP:           10.1.0.6
IPs:
  IP:  10.1.0.6
Containers:
  c:
    Image:        i
    Ports:        <none>
    Environment:  <none>
Conditions:
  Type   Status  Reason              Message
  ----   ------  ------              -------
  Ready  False   ContainersNotReady  not yet
Events:  <none>
`,
		"ep byhand": `Name:         byhand
Namespace:    finance
Labels:       <none>
Annotations:  <none>
Subsets:
  Addresses:          10.1.0.7,10.1.0.8
  NotReadyAddresses:  <none>
  Ports:
    Name     Port  Protocol
    ----     ----  --------
    <unset>  3001  TCP
Events:      <none>
`,
		"endpointslice slice": `Name:         slice
Namespace:    finance
Labels:       <none>
Annotations:  <none>
AddressType:  IPv4
Ports:
  Name  Port  Protocol
  ----  ----  --------
  http  3001  TCP
Endpoints:
  - Addresses:  10.1.0.9
    Conditions:
      Ready:   false
    Hostname:  <unset>
    NodeName:  node-1
    Zone:      <unset>
Events:        <none>
`,
		"ns finance": `Name:         finance
Labels:       kubernetes.io/metadata.name=finance
Annotations:  <none>
Status:       Active
Events:       <none>
`,
		"no node-1": `Name:               node-1
Labels:             <none>
Annotations:        <none>
CreationTimestamp:  TIME
Conditions:         <none>
Addresses:
  InternalIP:  127.0.0.1
System Info:
  Operating System:  linux
  Architecture:      amd64
  Kubelet Version:   v1
Pods:
  Namespace  Name
  ---------  ----
  finance    p1
Events:      <none>
`,
		"ip 10.96.0.1": `Name:         10.96.0.1
Labels:       <none>
Annotations:  <none>
Spec:
  parentRef:
    name: kubernetes
    namespace: default
    resource: services
Events:  <none>
`,
	}
	node := f.Snapshot().Get(registry.Key{Kind: registry.Nodes, Name: "node-1"})
	for args, want := range tests {
		t.Run(args, func(t *testing.T) {
			got := f.usher(t, "", append([]string{"describe", "-n", "finance"}, strings.Fields(args)...)...)
			got.stdout = strings.ReplaceAll(got.stdout, timestamp(node.GetCreationTimestamp()), "TIME")
			got.stderr = strings.TrimPrefix(got.stderr, "Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\n")
			if diff := cmp.Diff(result{0, want, ""}, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDescribeSeveral(t *testing.T) {
	f := newFake(t, finance)
	got := f.usher(t, "", "describe", "pods", "-n", "finance", "-l", "app=payment")
	if got.code != 0 || strings.Count("\n"+got.stdout, "\nName: ") != 2 || !strings.Contains(got.stdout, "<none>\n\n\nName: ") {
		t.Errorf("%+v", got)
	}
	got = f.usher(t, "", "describe", "svc", "none", "empty", "-n", "finance")
	if got.code != exitNotFound || !strings.HasPrefix(got.stdout, "Name: ") || got.stderr != "Error from server (NotFound): services \"none\" not found\n" {
		t.Errorf("%+v", got)
	}
	if got = f.usher(t, "", "describe", "svc"); got.stderr != "No resources found in default namespace.\n" || got.code != 0 {
		t.Errorf("%+v", got)
	}
}

// A name that nobody has stands for all that begin with it, as in kubectl.
func TestDescribePrefix(t *testing.T) {
	f := newFake(t, finance)
	const none = "Error from server (NotFound): "
	tests := []struct {
		args   string
		code   int
		shown  string
		stderr string
	}{
		{"svc pay", 0, "payment-service", ""},
		{"pods p", 0, "p1 p2", ""},
		{"pods p1", 0, "p1", ""},
		{"pods p10", exitNotFound, "", none + "pods \"p10\" not found\n"},
		{"pod/p", exitNotFound, "", none + "pods \"p\" not found\n"},
		{"pods p p", exitNotFound, "", none + "pods \"p\" not found\n" + none + "pods \"p\" not found\n"},
		{"pod/p pod/p1", exitNotFound, "p1", none + "pods \"p\" not found\n"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			got := f.usher(t, "", append([]string{"describe", "-n", "finance"}, strings.Fields(tt.args)...)...)
			var shown []string
			for line := range strings.Lines(got.stdout) {
				if name, ok := strings.CutPrefix(line, "Name:"); ok {
					shown = append(shown, strings.TrimSpace(name))
				}
			}
			if names := strings.Join(shown, " "); got.code != tt.code || names != tt.shown || got.stderr != tt.stderr {
				t.Errorf("shows %q, %+v, want %+v", names, got, tt)
			}
		})
	}
}

func TestDescribeContainer(t *testing.T) {
	at := metav1.Time{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			DeletionTimestamp: &metav1.Time{Time: time.Now().Add(time.Hour)}, DeletionGracePeriodSeconds: new(int64(30)),
			Annotations: map[string]string{lastApplied: "{}", "long": strings.Repeat("x", 150), "lines": "a\nb\n"},
		},
		Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{
			Name: "c", Command: []string{"web", "-v"}, Ports: []corev1.ContainerPort{{ContainerPort: 80, Protocol: "TCP"}, {Name: "dns", ContainerPort: 53, Protocol: "UDP"}},
		}}},
		Status: corev1.PodStatus{HostIP: "127.0.0.1", ContainerStatuses: []corev1.ContainerStatus{{
			Name: "c", RestartCount: 2, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 3, FinishedAt: at}},
		}}},
	}
	p := newPage()
	describePod(p, pod)
	want := fmt.Sprintf(`Node:                      n/127.0.0.1
Labels:                    <none>
Annotations:               lines:
                             a
                             b
                           long:
                             %s
Status:                    Terminating (lasts 0s)
Termination Grace Period:  30s
IP:                        <none>
Containers:
  c:
    Image:          <none>
    Ports:          80/TCP, 53/UDP dns
    Command:        web -v
    State:          Waiting
      Reason:       CrashLoopBackOff
    Last State:     Terminated
      Reason:       Error
      Exit Code:    3
      Finished:     Fri, 02 Jan 2026 03:04:05 +0000
    Ready:          false
    Restart Count:  2
    Environment:    <none>
Conditions:         <none>
`, strings.Repeat("x", 150))
	if diff := cmp.Diff(want, p.text()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
