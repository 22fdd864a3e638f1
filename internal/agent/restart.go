package agent

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The pauses of Kubernetes are 10 s, 20 s and so on up to 5 min, and begin anew
// after 10 min. That is right for a cluster; somebody who has just mended a
// program on a laptop does not want to wait.
const (
	backOffBase  = 500 * time.Millisecond
	backOffLimit = 30 * time.Second
	backOffReset = 2 * backOffLimit // as Kubernetes: twice the limit
)

// exitNotStarted is Kubernetes' exit code of a container that could not start.
const exitNotStarted = 128

// A backOff says how long the next process of a Pod has to wait.
type backOff struct {
	begun bool
	last  time.Duration
}

// next returns the pause after a process that ran for so long. There is none
// after the first one, as in Kubernetes.
func (b *backOff) next(ran time.Duration) time.Duration {
	switch {
	case !b.begun || ran >= backOffReset:
		b.begun, b.last = true, 0
	case b.last == 0:
		b.last = backOffBase
	default:
		b.last = min(2*b.last, backOffLimit)
	}
	return b.last
}

// restarts reports whether a process that has ended by itself is to be started
// again.
func (r *replica) restarts(ctx context.Context) bool {
	code, _ := r.process.status()
	switch r.workload.Restart {
	case corev1.RestartPolicyAlways:
		return ctx.Err() == nil
	case corev1.RestartPolicyOnFailure:
		return code != 0 && ctx.Err() == nil
	}
	return false
}

// crashed notes that the process has ended, and returns the pause before the
// next one. The Pod is not ready first of all, before anything is waited for.
func (r *replica) crashed(ctx context.Context) time.Duration {
	ended := time.Now()
	code, _ := r.process.status()
	reason := "Error"
	if code == 0 {
		reason = "Completed"
	}
	setTerminated(&r.status, corev1.ContainerStateTerminated{
		ExitCode: int32(code), Reason: reason,
		StartedAt: metav1.NewTime(r.began).Rfc3339Copy(), FinishedAt: metav1.NewTime(ended).Rfc3339Copy(),
	})
	r.news = ""
	_ = r.reconcile(ctx) // serve does it again, and heeds the error
	r.exited(ctx)
	r.process = nil
	return r.wait(ended.Sub(r.began))
}

// restart starts the next process. When that fails it returns the pause before
// another attempt.
func (r *replica) restart(ctx context.Context) (time.Duration, error) {
	r.status.ContainerStatuses[0].RestartCount++
	err := r.launch(ctx)
	if err == nil {
		return 0, nil
	}
	r.say("pod/%s does not start: %v", r.name, err)
	now := metav1.Now().Rfc3339Copy()
	setTerminated(&r.status, corev1.ContainerStateTerminated{
		ExitCode: exitNotStarted, Reason: "StartError", Message: err.Error(), StartedAt: now, FinishedAt: now,
	})
	return r.wait(0), err
}

// wait says that the next process waits, and returns how long. The process
// before it ran for so long.
func (r *replica) wait(ran time.Duration) time.Duration {
	pause := r.backOff.next(ran)
	if pause == 0 {
		r.say("pod/%s restarts", r.name)
		return 0
	}
	r.say("pod/%s restarts in %v", r.name, pause)
	container := r.pod.Spec.Containers[0].Name
	pod := fmt.Sprintf("%s_%s(%s)", r.name, r.pod.Namespace, r.pod.UID)
	setBackingOff(&r.status, fmt.Sprintf("back-off %v restarting failed container=%s pod=%s", pause, container, pod))
	r.events.warn(reasonBackOff, fmt.Sprintf(messageBackOff, container, pod))
	return pause
}
