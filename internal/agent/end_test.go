package agent

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A JVM exits with 143 upon SIGTERM: it ended as it was asked to. One that
// exits with 143 by itself failed.
func TestRunExitsTerminated(t *testing.T) {
	t.Run("asked to", func(t *testing.T) {
		r := start(t, Workload{Command: program("jvm")})
		r.await(t, 1, "payment-0 | jvm")
		r.stop()
		r.wait(t, 0)
		r.await(t, 1, "pod/payment-0 ended with exit code 143")
	})
	t.Run("by itself", func(t *testing.T) {
		start(t, Workload{Command: program("exit", "143")}).wait(t, 143)
	})
}

func TestRunStubborn(t *testing.T) {
	t.Run("killed after its grace period", func(t *testing.T) {
		r := start(t, Workload{Command: program("stubborn"), Grace: time.Second})
		r.await(t, 1, "payment-0 | stubborn")
		r.stop()
		r.wait(t, 128+9)
		r.await(t, 1, "pod/payment-0 did not end within 1 s: killed")
	})
	t.Run("killed at the second Ctrl-C", func(t *testing.T) {
		r := start(t, Workload{Command: program("stubborn")})
		r.await(t, 1, "payment-0 | stubborn")
		r.stop()
		r.await(t, 1, "pod/payment-0 terminating")
		r.kill()
		r.wait(t, 128+9)
	})
}

// A daemon that hangs keeps nobody from a second Ctrl-C.
func TestRunKilledWhileDaemonHangs(t *testing.T) {
	r := start(t, Workload{Command: program("stubborn")})
	r.await(t, 1, "payment-0 | stubborn")
	r.mu.Lock()
	r.latency = time.Hour
	r.mu.Unlock()
	r.stop()
	r.await(t, 1, "asked to delete payment-0")
	began := time.Now()
	r.kill()
	r.wait(t, 128+9)
	if took := time.Since(began); took > requestTimeout/2 {
		t.Errorf("took %v", took)
	}
}

// The daemon has gone for good: run ends with its last process, and the Pods
// with their lease. As long as another process needs the lease, the Pod of one
// that ended is removed when the daemon is back.
func TestRunDaemonGone(t *testing.T) {
	pids := t.TempDir()
	r := start(t, Workload{Replicas: 2, Command: program("pid", pids, "idle")})
	end := func(name string) {
		if err := syscall.Kill(readPid(t, filepath.Join(pids, name)), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.await(t, 1, "pod/"+name+" ended by signal 9")
	}
	r.await(t, 1, "status payment-0 Running ready=true")
	r.await(t, 1, "status payment-1 Running ready=true")
	r.setDown(true)
	end("payment-0")
	r.setDown(false)
	r.await(t, 1, "delete payment-0 grace=0")
	r.setDown(true)
	end("payment-1")
	select {
	case <-r.ended:
	case <-time.After(leaseTTL):
		t.Fatalf("run has not ended %v after its last process", leaseTTL)
	}
	if r.code != 128+9 || r.err != nil {
		t.Errorf("Run returned %d, %v, want %d", r.code, r.err, 128+9)
	}
	r.await(t, 1, "the lease could not be ended; the Pods go with it within 5s")
}

// What a process started and left behind ends with it, and does not hold its
// output open.
func TestRunLeftBehind(t *testing.T) {
	port := tcpPort(t)
	r := start(t, Workload{Ports: []corev1.ContainerPort{port}, Command: program("parent", "serve")})
	r.wait(t, 0)
	_, addr, _ := strings.Cut(r.lines("payment-0 | listening on ")[0], " on ")
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("the server still listens")
	}
}
