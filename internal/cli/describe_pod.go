package cli

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// describePod writes what kubectl does of a Pod, as far as usher knows of it,
// and why it is not ready.
func describePod(p *page, pod *corev1.Pod) {
	node := pod.Spec.NodeName
	if node != "" {
		node += "/" + pod.Status.HostIP
	}
	p.field(0, "Node", node)
	if t := pod.Status.StartTime; t != nil {
		p.field(0, "Start Time", timestamp(*t))
	}
	describeMeta(p, pod)
	describePodStatus(p, pod)
	p.field(0, "IP", pod.Status.PodIP)
	if len(pod.Status.PodIPs) > 0 {
		p.line(0, "IPs:")
		for _, ip := range pod.Status.PodIPs {
			p.field(1, "IP", ip.IP)
		}
	}
	p.line(0, "Containers:")
	for i := range pod.Spec.Containers {
		describeContainer(p, pod, &pod.Spec.Containers[i])
	}
	var rows [][]string
	for _, cond := range pod.Status.Conditions {
		rows = append(rows, []string{string(cond.Type), string(cond.Status), cond.Reason, cond.Message})
	}
	p.table(0, "Conditions", []string{"Type", "Status", "Reason", "Message"}, rows)
}

func describePodStatus(p *page, pod *corev1.Pod) {
	if t := pod.DeletionTimestamp; t != nil {
		p.field(0, "Status", fmt.Sprintf("Terminating (lasts %s)", duration.HumanDuration(max(0, time.Since(t.Time)))))
		if s := pod.DeletionGracePeriodSeconds; s != nil {
			p.field(0, "Termination Grace Period", fmt.Sprintf("%ds", *s))
		}
	} else {
		p.field(0, "Status", string(pod.Status.Phase))
	}
	if pod.Status.Reason != "" {
		p.field(0, "Reason", pod.Status.Reason)
	}
	if pod.Status.Message != "" {
		p.field(0, "Message", pod.Status.Message)
	}
}

func describeContainer(p *page, pod *corev1.Pod, c *corev1.Container) {
	p.line(1, c.Name+":")
	p.field(2, "Image", c.Image)
	var ports []string
	for _, port := range c.Ports {
		ports = append(ports, strings.TrimSpace(fmt.Sprintf("%d/%s %s", port.ContainerPort, port.Protocol, port.Name)))
	}
	p.field(2, "Ports", strings.Join(ports, ", "))
	if len(c.Command) > 0 {
		p.field(2, "Command", strings.Join(c.Command, " "))
	}
	if len(c.Args) > 0 {
		p.field(2, "Args", strings.Join(c.Args, " "))
	}
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name == c.Name {
			describeState(p, "State", s.State)
			if s.LastTerminationState.Terminated != nil {
				describeState(p, "Last State", s.LastTerminationState)
			}
			p.field(2, "Ready", strconv.FormatBool(s.Ready))
			p.field(2, "Restart Count", strconv.Itoa(int(s.RestartCount)))
		}
	}
	var env []string
	for _, e := range c.Env {
		env = append(env, e.Name+"="+e.Value)
	}
	p.list(2, "Environment", env)
}

func describeState(p *page, name string, s corev1.ContainerState) {
	switch {
	case s.Running != nil:
		p.field(2, name, "Running")
		p.field(3, "Started", timestamp(s.Running.StartedAt))
	case s.Waiting != nil:
		p.field(2, name, "Waiting")
		p.field(3, "Reason", cmp.Or(s.Waiting.Reason, s.Waiting.Message))
	case s.Terminated != nil:
		p.field(2, name, "Terminated")
		p.field(3, "Reason", cmp.Or(s.Terminated.Reason, s.Terminated.Message))
		p.field(3, "Exit Code", strconv.Itoa(int(s.Terminated.ExitCode)))
		p.field(3, "Finished", timestamp(s.Terminated.FinishedAt))
	default:
		p.field(2, name, "Waiting")
	}
}

func timestamp(t metav1.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return t.Format(time.RFC1123Z)
}
