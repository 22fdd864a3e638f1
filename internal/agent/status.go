package agent

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
)

// newStatus returns the status of a Pod whose process is about to start at the
// address that the API chose.
func newStatus(pod *corev1.Pod) corev1.PodStatus {
	now := metav1.Now().Rfc3339Copy() // as precise as it is kept
	status := corev1.PodStatus{
		Phase:  corev1.PodPending,
		PodIP:  pod.Status.PodIP,
		PodIPs: []corev1.PodIP{{IP: pod.Status.PodIP}},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name:    pod.Spec.Containers[0].Name,
			Image:   registry.ProcessImage,
			Started: new(false),
			State:   corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}},
		}},
		StartTime: &now,
	}
	setCondition(&status, corev1.PodInitialized, true, "", now)
	setCondition(&status, corev1.PodReady, false, reasonNotReady, now)
	setCondition(&status, corev1.ContainersReady, false, reasonNotReady, now)
	setCondition(&status, corev1.PodScheduled, true, "", now)
	return status
}

// reasonNotReady is the kubelet's reason for a Pod that failed its check.
const reasonNotReady = "ContainersNotReady"

// setStarted notes that the process runs.
func setStarted(status *corev1.PodStatus, at time.Time) {
	status.Phase = corev1.PodRunning
	c := &status.ContainerStatuses[0]
	c.Started = new(true)
	keepTermination(c)
	c.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(at).Rfc3339Copy()}}
}

// setTerminated notes how the process ended.
func setTerminated(status *corev1.PodStatus, how corev1.ContainerStateTerminated) {
	c := &status.ContainerStatuses[0]
	c.Started = new(false)
	c.State = corev1.ContainerState{Terminated: &how}
	setReady(status, false, how.FinishedAt.Time)
}

// setBackingOff notes that the next process has to wait.
func setBackingOff(status *corev1.PodStatus, message string) {
	c := &status.ContainerStatuses[0]
	keepTermination(c)
	c.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: message}}
}

// keepTermination keeps how the process before ended.
func keepTermination(c *corev1.ContainerStatus) {
	if c.State.Terminated != nil {
		c.LastTerminationState = c.State
	}
}

// setReady notes whether the process is ready for connections.
func setReady(status *corev1.PodStatus, ready bool, at time.Time) {
	reason := reasonNotReady
	if ready {
		reason = ""
	}
	status.ContainerStatuses[0].Ready = ready
	setCondition(status, corev1.PodReady, ready, reason, metav1.NewTime(at).Rfc3339Copy())
	setCondition(status, corev1.ContainersReady, ready, reason, metav1.NewTime(at).Rfc3339Copy())
}

// setCondition sets one condition. Its time moves only when it turns.
func setCondition(status *corev1.PodStatus, t corev1.PodConditionType, is bool, reason string, at metav1.Time) {
	value := corev1.ConditionFalse
	if is {
		value = corev1.ConditionTrue
	}
	for i := range status.Conditions {
		c := &status.Conditions[i]
		if c.Type != t {
			continue
		}
		if c.Status != value {
			c.Status, c.LastTransitionTime = value, at
		}
		c.Reason = reason
		return
	}
	status.Conditions = append(status.Conditions, corev1.PodCondition{
		Type: t, Status: value, Reason: reason, LastTransitionTime: at,
	})
}
