package api

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

func (p printing) podCells(pod *corev1.Pod) []any {
	ready, all := readyContainers(pod)
	restarts := 0
	for _, c := range pod.Status.ContainerStatuses {
		restarts += int(c.RestartCount)
	}
	return []any{
		pod.Name, fmt.Sprintf("%d/%d", ready, all), podStatus(pod), strconv.Itoa(restarts), p.age(pod.CreationTimestamp),
		cmp.Or(pod.Status.PodIP, none), cmp.Or(pod.Spec.NodeName, none),
		cmp.Or(pod.Status.NominatedNodeName, none), readinessGates(pod),
	}
}

// readinessGates counts those of pod that are true, out of all.
func readinessGates(pod *corev1.Pod) string {
	if len(pod.Spec.ReadinessGates) == 0 {
		return none
	}
	open := 0
	for _, gate := range pod.Spec.ReadinessGates {
		if slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue
		}) {
			open++
		}
	}
	return fmt.Sprintf("%d/%d", open, len(pod.Spec.ReadinessGates))
}

// readyContainers counts the containers of pod that are ready, out of all.
// Where nobody reports on containers, the Ready condition of the Pod says it
// for each.
func readyContainers(pod *corev1.Pod) (ready, all int) {
	all = len(pod.Spec.Containers)
	if len(pod.Status.ContainerStatuses) == 0 {
		if registry.IsPodReady(pod) {
			ready = all
		}
		return ready, all
	}
	for _, c := range pod.Status.ContainerStatuses {
		if c.Ready && c.State.Running != nil {
			ready++
		}
	}
	return ready, all
}

// podStatus sums up the state of pod in a word, as kubectl does.
func podStatus(pod *corev1.Pod) string {
	terminal := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	if pod.DeletionTimestamp != nil && !terminal {
		return "Terminating"
	}
	status, running := cmp.Or(pod.Status.Reason, string(pod.Status.Phase)), false
	for i := len(pod.Status.ContainerStatuses) - 1; i >= 0; i-- {
		switch c := pod.Status.ContainerStatuses[i]; {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			status = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			status = terminated(c.State.Terminated)
		case c.Ready && c.State.Running != nil:
			running = true
		}
	}
	if status == "Completed" && running {
		if registry.IsPodReady(pod) {
			return "Running"
		}
		return "NotReady"
	}
	return status
}

func terminated(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}
