package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// A process that fails at once is started at once, then after pauses that
// double up to a limit; once it has run for a minute, all begins anew.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backOff
		var got []time.Duration
		for _, runs := range []time.Duration{
			0, 0, time.Second, 0, 0, 0, 0, 0, 0, backOffReset - 1, backOffReset, 0, time.Hour, time.Second,
		} {
			began := time.Now()
			time.Sleep(runs)
			pause := b.next(time.Since(began))
			got = append(got, pause)
			time.Sleep(pause)
		}
		s := time.Second
		want := []time.Duration{0, s / 2, s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s, 30 * s, 0, s / 2, 0, s / 2}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pauses (-want +got):\n%s", diff)
		}
	})
}

// Which ends of a process are followed by another one.
func TestRestartPolicy(t *testing.T) {
	tests := map[string]struct {
		policy   corev1.RestartPolicy
		code     string
		restarts bool
	}{
		"no policy":             {"", "3", false},
		"never":                 {corev1.RestartPolicyNever, "3", false},
		"on failure, a failure": {corev1.RestartPolicyOnFailure, "3", true},
		"on failure, a success": {corev1.RestartPolicyOnFailure, "0", false},
		"always, a failure":     {corev1.RestartPolicyAlways, "3", true},
		"always, a success":     {corev1.RestartPolicyAlways, "0", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, Workload{Restart: tt.policy, Command: program("exit", tt.code)})
			if tt.restarts {
				r.await(t, 2, "pod/payment-0 ended with exit code "+tt.code)
				r.stop()
				<-r.ended
				return
			}
			<-r.ended
			if lines := r.lines("pod/payment-0 restarts"); len(lines) > 0 {
				t.Error(lines)
			}
		})
	}
}

// A process that fails again and again: what its Pod says meanwhile, and that
// the Pod stays the same, under the same lease.
func TestRestartCrashLoop(t *testing.T) {
	r := start(t, Workload{Restart: corev1.RestartPolicyOnFailure, Command: program("exit", "3")})
	r.await(t, 1, "create payment-0")
	first := r.pod("payment-0")
	r.await(t, 1, "pod/payment-0 restarts in 1s")
	var pod *corev1.Pod
	waitFor(t, func() bool {
		pod = r.pod("payment-0")
		w := pod.Status.ContainerStatuses[0].State.Waiting
		return w != nil && strings.HasPrefix(w.Message, "back-off 1s ")
	})
	if pod.UID != first.UID || pod.Status.PodIP != first.Status.PodIP {
		t.Errorf("Pod %s at %s, was %s at %s", pod.UID, pod.Status.PodIP, first.UID, first.Status.PodIP)
	}
	c := pod.Status.ContainerStatuses[0]
	want := &corev1.ContainerStateWaiting{
		Reason: "CrashLoopBackOff", Message: "back-off 1s restarting failed container=payment pod=payment-0_finance(" + string(pod.UID) + ")",
	}
	if diff := cmp.Diff(want, c.State.Waiting); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	if last := c.LastTerminationState.Terminated; last == nil || last.ExitCode != 3 || last.Reason != "Error" {
		t.Errorf("last state %+v", c.LastTerminationState)
	}
	if c.RestartCount != 2 || c.Ready || isReady(pod) || pod.Status.Phase != corev1.PodRunning {
		t.Errorf("%d restarts, ready=%t, %s", c.RestartCount, isReady(pod), pod.Status.Phase)
	}
	r.await(t, 1, "event payment-0 x1 BackOff: Back-off restarting failed container payment in pod payment-0_finance(")
	r.stop() // it waits for its next process: there is nothing to wait for
	r.wait(t, 0)
	if diff := cmp.Diff([]string{"grant"}, r.lines("grant")); diff != "" {
		t.Error(diff)
	}
}

// A server that is killed is ready again at its address; until then it is not.
// The exit code of run is that of the last process alone.
func TestRestartServer(t *testing.T) {
	port := tcpPort(t)
	pids := t.TempDir()
	r := start(t, Workload{
		Restart: corev1.RestartPolicyAlways, Ports: []corev1.ContainerPort{port}, Command: program("pid", pids, "serve"),
	})
	r.await(t, 1, "pod/payment-0 ready (")
	if err := syscall.Kill(readPid(t, filepath.Join(pids, "payment-0")), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.await(t, 2, "pod/payment-0 ready (")
	said := slices.Compact(r.lines("pod/payment-0"))
	want := []string{said[0], "pod/payment-0 ended by signal 9 (killed)", "pod/payment-0 restarts", said[0]}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
	var turns []string
	for _, line := range r.lines("status payment-0 Running") {
		turns = append(turns, strings.TrimPrefix(line, "status payment-0 Running "))
	}
	if diff := cmp.Diff([]string{"ready=false", "ready=true", "ready=false", "ready=true"}, slices.Compact(turns)); diff != "" {
		t.Errorf("turns (-want +got):\n%s", diff)
	}
	last := r.pod("payment-0").Status.ContainerStatuses[0]
	if last.RestartCount != 1 || last.State.Running == nil || last.LastTerminationState.Terminated.ExitCode != 128+9 {
		t.Errorf("status %+v", last)
	}
	r.stop()
	r.wait(t, 0)
}

// A program that is not there for a moment, as while it is built, is a failed
// attempt and not the end; and a Pod that is deleted between two processes ends.
func TestRestartWithoutProgram(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nrm program\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := start(t, Workload{Restart: corev1.RestartPolicyAlways, Command: []string{"./program"}, Dir: dir})
	r.await(t, 1, "pod/payment-0 does not start: ")
	waitFor(t, func() bool {
		last := r.pod("payment-0").Status.ContainerStatuses[0].LastTerminationState.Terminated
		return last != nil && last.Reason == "StartError" && last.ExitCode == 128
	})
	r.expireOnly("payment-0")
	r.wait(t, 0)
}

// expireOnly deletes a Pod as somebody does who does not wait.
func (f *fakeAPI) expireOnly(name string) {
	pod := f.pod(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, p := range f.pods {
		if p.UID == pod.UID {
			delete(f.pods, key)
			f.announceLocked("DELETED", pod)
		}
	}
}

// waitFor waits until ok, which looks at the fake.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("it did not come true")
		}
	}
}
