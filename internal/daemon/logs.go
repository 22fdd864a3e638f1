package daemon

import (
	"context"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"usher/internal/podlog"
)

// logDir is where `usher run` leaves what the processes of this node's Pods
// write.
func (d *daemon) logDir() string { return podlog.Dir(d.Config.DataDir) }

// logs writes what the process of a Pod has written.
func (d *daemon) logs(ctx context.Context, w io.Writer, pod *corev1.Pod, o corev1.PodLogOptions) error {
	if node := pod.Spec.NodeName; node != d.Config.NodeName {
		return apierrors.NewBadRequest(fmt.Sprintf("pod %q is on node %q: its log is there", pod.Name, node))
	}
	return podlog.Copy(ctx, w, d.logDir(), types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}, o, func() bool {
		now := d.store.Snapshot().Pod(pod.Namespace, pod.Name)
		return now == nil || now.UID != pod.UID
	})
}

// sweepLogs removes the logs of Pods that are gone for a while.
func (d *daemon) sweepLogs() error {
	snapshot := d.store.Snapshot()
	return podlog.Sweep(d.logDir(), func(pod types.NamespacedName) bool {
		return snapshot.Pod(pod.Namespace, pod.Name) != nil
	})
}
