package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"usher/registry"
)

// A running is an agent at work on a fake API, whose log has everything it and
// its processes say.
type running struct {
	*fakeAPI
	stop context.CancelFunc // as Ctrl-C does
	kill func()             // as a second Ctrl-C does

	ended chan struct{} // closed when Run has returned
	code  int           // of Run; valid once ended is closed
	err   error
}

// start runs w on a new fake API until the end of the test.
func start(t *testing.T, w Workload) *running {
	t.Helper()
	return startOn(t, newFakeAPI(), w)
}

// startOn runs w on api, by an agent that differs from the usual in what is
// said.
func startOn(t *testing.T, api *fakeAPI, w Workload, different ...func(*Agent)) *running {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	kill := make(chan struct{})
	r := &running{fakeAPI: api, stop: stop, kill: func() { close(kill) }, ended: make(chan struct{})}
	r.latency = 100 * time.Millisecond
	if w.Name == "" {
		w.Name = "payment"
	}
	w.Namespace = "finance"
	w.Replicas = max(1, w.Replicas)
	a := &Agent{API: r, NodeName: "laptop", Stdout: r, Stderr: r, Prefix: true, Environ: []string{"PATH=/bin"}, Kill: kill}
	for _, f := range different {
		f(a)
	}
	go func() {
		defer close(r.ended)
		r.code, r.err = a.Run(ctx, w)
	}()
	t.Cleanup(func() {
		stop()
		r.setDown(false)
		<-r.ended
		if t.Failed() {
			t.Logf("log:\n%s", strings.Join(r.lines(), "\n"))
		}
	})
	return r
}

// wait waits for the end of Run and checks its exit code and that it left
// nothing in the registry.
func (r *running) wait(t *testing.T, code int) {
	t.Helper()
	select {
	case <-r.ended:
	case <-time.After(20 * time.Second):
		t.Fatal("Run has not returned within 20 s")
	}
	if r.code != code || r.err != nil {
		t.Errorf("Run returned %d, %v, want %d", r.code, r.err, code)
	}
	if len(r.pods) > 0 || len(r.leases) > 0 {
		t.Errorf("left %d pods and %d leases", len(r.pods), len(r.leases))
	}
}

// A label that somebody sets while the agent writes a status stays.
func TestLabelStays(t *testing.T) {
	api := newFakeAPI()
	api.faster = func(pod *corev1.Pod) { pod.Labels["tier"] = "back" }
	port := tcpPort(t)
	r := startOn(t, api, Workload{Ports: []corev1.ContainerPort{port}, Command: program("serve")})
	r.await(t, 1, "status payment-0 Running ready=true")
	if labels := r.pod("payment-0").Labels; labels["tier"] != "back" {
		t.Errorf("the labels are %v", labels)
	}
	r.stop()
	r.wait(t, 0)
}

func TestRunToTheEnd(t *testing.T) {
	port := tcpPort(t)
	r := start(t, Workload{Replicas: 3, Ports: []corev1.ContainerPort{port}, Command: program("serve"), Grace: 5 * time.Second})
	for i := range 3 {
		name := fmt.Sprintf("payment-%d", i)
		r.await(t, 1, "status "+name+" Running ready=true")
		r.await(t, 1, fmt.Sprintf("pod/%s ready (%s:%d)", name, r.pod(name).Status.PodIP, port.ContainerPort))
		r.await(t, 1, name+" | listening")
	}
	r.stop()
	r.wait(t, 0)
	for i := range 3 {
		name := fmt.Sprintf("payment-%d", i)
		check := func(want []string, prefixes ...string) {
			t.Helper()
			if diff := cmp.Diff(want, r.lines(prefixes...)); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		}
		check([]string{
			"create " + name + " ready=false",
			"delete " + name + " grace=5",
			"pod/" + name + " terminating",
			"delete " + name + " grace=0",
			"pod/" + name + " ended with exit code 0",
		}, "create "+name, "delete "+name, "pod/"+name+" term", "pod/"+name+" ended")
		check([]string{
			"pod/" + name + " terminating",
			name + " | got SIGTERM",
			"pod/" + name + " ended with exit code 0",
		}, "pod/"+name+" term", name+" | got", "pod/"+name+" ended")
	}
}

// The Pod that is written is what Kubernetes would have of such a process.
func TestRunPod(t *testing.T) {
	port := tcpPort(t)
	port.Name = "http"
	r := start(t, Workload{
		Labels: map[string]string{"app": "pay"}, Ports: []corev1.ContainerPort{port}, Command: program("serve"),
	})
	r.await(t, 1, "status payment-0 Running ready=true")
	got := r.pod("payment-0").DeepCopy()
	if got.Annotations[registry.AnnotationLease] == "" {
		t.Error("not under a lease")
	}
	if started := got.Status.ContainerStatuses[0].State.Running.StartedAt; time.Since(started.Time) > time.Minute {
		t.Errorf("started at %v", started)
	}
	if got.Status.StartTime == nil {
		t.Error("no startTime")
	}
	got.Annotations, got.UID, got.ResourceVersion = nil, "", ""
	got.Status.StartTime, got.Status.ContainerStatuses[0].State = nil, corev1.ContainerState{}
	for i := range got.Status.Conditions {
		got.Status.Conditions[i].LastTransitionTime = metav1.Time{}
	}
	ip := got.Status.PodIP
	want := registry.Pods.New().(*corev1.Pod)
	want.ObjectMeta = metav1.ObjectMeta{Name: "payment-0", Namespace: "finance", Labels: map[string]string{"app": "pay"}}
	want.Spec = corev1.PodSpec{
		NodeName: "laptop", RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: new(int64(30)),
		Containers: []corev1.Container{{
			Name: "payment", Image: registry.ProcessImage, Command: program("serve"), Ports: []corev1.ContainerPort{port},
		}},
	}
	registry.SetDefaults(want)
	want.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodInitialized, Status: "True"}, {Type: corev1.PodReady, Status: "True"},
			{Type: corev1.ContainersReady, Status: "True"}, {Type: corev1.PodScheduled, Status: "True"},
		},
		ContainerStatuses: []corev1.ContainerStatus{{Name: "payment", Image: registry.ProcessImage, Ready: true, Started: new(true)}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pod (-want +got):\n%s", diff)
	}
}

func TestRunEnvironment(t *testing.T) {
	r := start(t, Workload{
		Ports: []corev1.ContainerPort{
			{ContainerPort: 8080, Protocol: "UDP"},
			{Name: "grpc-web", ContainerPort: 9090, Protocol: "UDP"},
		},
		Command: program("env"),
	})
	r.wait(t, 0)
	var ip string
	for _, line := range r.lines("payment-0 | env POD_IP=") {
		_, ip, _ = strings.Cut(line, "=")
	}
	var want []string
	for _, kv := range []string{"PATH=/bin", "POD_NAME=payment-0", "POD_NAMESPACE=finance", "POD_IP=" + ip, "HOST=" + ip,
		"PORT=8080", "PORT_GRPC_WEB=9090"} {
		want = append(want, "payment-0 | env "+kv)
	}
	if diff := cmp.Diff(want, r.lines("payment-0 | env")); diff != "" {
		t.Error(diff)
	}
}

func TestRunExitCodes(t *testing.T) {
	tests := map[string]struct {
		command []string
		want    int
	}{
		"success":  {program("exit", "0"), 0},
		"failure":  {program("exit", "7"), 7},
		"a signal": {program("die"), 128 + 9},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := start(t, Workload{Replicas: 2, Command: tt.command})
			r.wait(t, tt.want)
			if diff := cmp.Diff([]string{"delete payment-0 grace=0", "delete payment-1 grace=0"}, slices.Sorted(slices.Values(r.lines("delete")))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A process without TCP ports is ready as soon as it runs.
func TestRunReadyWithoutTCP(t *testing.T) {
	r := start(t, Workload{Ports: []corev1.ContainerPort{{ContainerPort: 53, Protocol: "UDP"}}, Command: program("idle")})
	r.await(t, 1, "status payment-0 Running ready=true")
	r.await(t, 1, "payment-0 | idle")
	r.stop()
	r.wait(t, 0) // it ended by the SIGTERM that it was sent
}

// Somebody deletes a Pod: its process is stopped, the others run on.
func TestRunPodDeleted(t *testing.T) {
	for _, grace := range []int64{3, 0} {
		t.Run(fmt.Sprintf("grace period %d", grace), func(t *testing.T) {
			port := tcpPort(t)
			r := start(t, Workload{Replicas: 2, Ports: []corev1.ContainerPort{port}, Command: program("serve")})
			r.await(t, 1, "status payment-0 Running ready=true")
			r.await(t, 1, "status payment-1 Running ready=true")
			key := registry.KeyOf(r.pod("payment-0"))
			if err := r.Delete(t.Context(), key, metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
				t.Fatal(err)
			}
			r.await(t, 1, "payment-0 | got SIGTERM")
			r.await(t, 1, "pod/payment-0 ended with exit code 0")
			if got := r.lines("payment-1 | got SIGTERM", "create payment-0"); len(got) != 1 {
				t.Errorf("got %q, want payment-0 created once and payment-1 left alone", got)
			}
			if grace > 0 {
				want := []string{"delete payment-0 grace=3", "delete payment-0 grace=0"}
				if diff := cmp.Diff(want, r.lines("delete payment-0")); diff != "" {
					t.Error(diff)
				}
			}
			r.stop()
			r.wait(t, 0)
		})
	}
}

// The lease is lost with the daemon or to a sleep: the Pods come back with the
// same names, addresses and readiness, and the processes do not notice.
func TestRunLeaseLost(t *testing.T) {
	port := tcpPort(t)
	r := start(t, Workload{Replicas: 2, Ports: []corev1.ContainerPort{port}, Command: program("serve")})
	addresses := make(map[string]string)
	for _, name := range []string{"payment-0", "payment-1"} {
		r.await(t, 1, "status "+name+" Running ready=true")
		addresses[name] = r.pod(name).Status.PodIP
	}
	r.setDown(true)
	r.expire()
	r.await(t, 1, "the daemon does not answer; the processes run on")
	r.mu.Lock()
	r.mute = 1 // the Pod is written, and the agent does not know
	r.mu.Unlock()
	r.setDown(false)
	for name, ip := range addresses {
		r.await(t, 1, "create "+name+" ready=true")
		r.await(t, 1, "pod/"+name+" registered again ("+ip+")")
		if got := r.pod(name).Status.PodIP; got != ip {
			t.Errorf("%s came back with address %s, had %s", name, got, ip)
		}
	}
	if n := len(r.lines("payment-0 | listening", "payment-1 | listening")); n != 2 {
		t.Errorf("%d processes started, want 2", n)
	}
	r.stop()
	r.wait(t, 0)
	if got := r.lines("payment-0 | got SIGTERM", "payment-1 | got SIGTERM"); len(got) != 2 {
		t.Errorf("stopped: %q", got)
	}
}

// A Pod of the name is there already: one under a lease may be what is left of
// an agent that was killed, and is given the time to go.
func TestRunNameTaken(t *testing.T) {
	occupy := func(leased bool) (api *fakeAPI, lease string) {
		api = newFakeAPI()
		lease, _ = api.GrantLease(t.Context(), leaseTTL)
		pod := Workload{Name: "payment", Namespace: "finance", Command: program("idle")}.pod(0, "laptop")
		pod.Annotations = map[string]string{registry.AnnotationLease: lease}
		if _, err := api.Create(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		if !leased {
			api.pod("payment-0").Annotations = nil
		}
		return api, lease
	}
	t.Run("under a lease", func(t *testing.T) {
		api, lease := occupy(true)
		r := startOn(t, api, Workload{Command: program("exit", "0")})
		r.await(t, 1, "pod/payment-0 exists already: waiting for its lease to end")
		if err := r.RevokeLease(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
		r.wait(t, 0)
	})
	t.Run("under none", func(t *testing.T) {
		api, _ := occupy(false)
		r := startOn(t, api, Workload{Command: program("exit", "0")})
		<-r.ended
		if want := `pods "payment-0" already exists`; r.err == nil || r.err.Error() != want {
			t.Errorf("error %v, want %s", r.err, want)
		}
		if r.pod("payment-0") == nil {
			t.Error("the other Pod has been removed")
		}
	})
}

// A process that stops listening is not ready, and is again when it listens.
func TestRunNotReady(t *testing.T) {
	r := start(t, Workload{Ports: []corev1.ContainerPort{tcpPort(t)}, Command: program("serve", "once")})
	r.await(t, 1, "status payment-0 Running ready=true")
	r.await(t, 1, "pod/payment-0 ready")
	r.await(t, 2, "status payment-0 Running ready=false")
	r.await(t, 1, "pod/payment-0 not ready: dial tcp")
}

func TestRunRefuses(t *testing.T) {
	tests := map[string]struct {
		workload Workload
		want     string
	}{
		"a name": {Workload{Name: "Pay_ment", Command: program("exit", "0")}, `name: Invalid value: "Pay_ment": a lowercase RFC 1123 label must consist of`},
		"a label": {Workload{Labels: map[string]string{"app": "a b"}, Command: program("exit", "0")},
			`labels: Invalid value: "a b": a valid label must be`},
		"replicas": {Workload{Replicas: 1001, Command: program("exit", "0")}, "replicas: Invalid value: 1001: must be between 1 and 1000, inclusive"},
		"a probe":  {Workload{Readiness: &corev1.Probe{PeriodSeconds: -1}, Command: program("exit", "0")}, "readinessProbe: Required value: must specify a handler type"},
		"a probe's port": {Workload{Readiness: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("http")}}},
			Command: program("exit", "0")}, `readinessProbe.tcpSocket.port: Not found: "http"`},
		"ports": {Workload{Ports: []corev1.ContainerPort{{ContainerPort: 80, Protocol: "TCP"}, {ContainerPort: 80, Protocol: "TCP"}},
			Command: program("exit", "0")}, "ports[1].containerPort: Duplicate value: 80"},
		"port names": {Workload{Ports: []corev1.ContainerPort{{Name: "a", ContainerPort: 80}, {Name: "a", ContainerPort: 81}},
			Command: program("exit", "0")}, `ports[1].name: Duplicate value: "a"`},
		"no command":         {Workload{}, "command: Required value"},
		"an unknown command": {Workload{Command: []string{"no-such-program"}}, "no-such-program: command not found"},
		"an unknown path":    {Workload{Command: []string{"/no/such/program"}}, "/no/such/program: command not found"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := start(t, tt.workload)
			<-r.ended
			if r.err == nil || !strings.Contains(r.err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", r.err, tt.want)
			}
			if got := r.lines(); len(got) > 0 {
				t.Errorf("asked the daemon for %q", got)
			}
		})
	}
}

// A readinessProbe decides alone, its failures are Events, and the Pod carries
// it.
func TestRunReadinessProbe(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "ready")
	r := start(t, Workload{
		Ports: []corev1.ContainerPort{tcpPort(t)}, Command: program("idle"), // it never listens
		Readiness: &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/sh", "-c", "echo $POD_NAME waits; test -e " + flag}}},
			PeriodSeconds: 1, FailureThreshold: 1, TimeoutSeconds: 30,
		},
	})
	r.await(t, 1, "event payment-0 x1 Unhealthy: Readiness probe failed: payment-0 waits")
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.await(t, 1, "status payment-0 Running ready=true")
	if err := os.Remove(flag); err != nil {
		t.Fatal(err)
	}
	r.await(t, 2, "status payment-0 Running ready=false")
	r.await(t, 1, "pod/payment-0 not ready: Readiness probe failed: payment-0 waits")
	if p := r.pod("payment-0").Spec.Containers[0].ReadinessProbe; p == nil || p.Exec == nil || p.SuccessThreshold != 1 {
		t.Errorf("the Pod has the probe %+v", p)
	}
	r.stop()
	r.wait(t, 0)
}
