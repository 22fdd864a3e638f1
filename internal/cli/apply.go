package cli

import (
	"context"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"usher/internal/client"
	"usher/registry"
)

func newApplyCommand(g *globals) *cobra.Command {
	w := &writeCommand{globals: g, verb: "applying", send: applyObject, named: true}
	return w.command(&cobra.Command{
		Use: "apply -f FILE", Short: "Create or change objects to be as manifests say",
		Long: `Create objects, or change them to be as their manifests say. What the manifest of
an existing object leaves out goes back to its default; its address stays.

The objects are checked before the first one is sent: when one is wrong, none is
applied. apply returns when the daemon serves what was applied.`,
		Example: `  usher apply -f service.yaml
  usher apply -R -f manifests/
  cat *.yaml | usher apply -n finance -f -`,
	})
}

// applyObject creates an object, or replaces it when it exists. The server
// keeps what it gave the object, and says by the resourceVersion whether
// anything changed.
func applyObject(ctx context.Context, c *client.Client, obj registry.Object) (registry.Object, string, error) {
	const attempts = 5 // while others create and delete the object under our hands
	for attempt := 1; ; attempt++ {
		out, done, err := applyOnce(ctx, c, obj.DeepCopyObject().(registry.Object))
		raced := apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) ||
			apierrors.IsConflict(err) && obj.GetResourceVersion() == ""
		if !raced || attempt == attempts {
			return out, done, err
		}
	}
}

func applyOnce(ctx context.Context, c *client.Client, obj registry.Object) (registry.Object, string, error) {
	old, err := c.Get(ctx, registry.KeyOf(obj))
	if apierrors.IsNotFound(err) {
		out, err := c.Create(ctx, obj)
		return out, "created", err
	}
	if err != nil {
		return nil, "", err
	}
	keepLease(obj, old)
	out, err := c.Update(ctx, obj)
	if err != nil {
		return nil, "", err
	}
	if pod, ok := obj.(*corev1.Pod); ok && saysStatus(pod) {
		// There is no kubelet: a manifest may say how its Pod is.
		pod.ResourceVersion = out.GetResourceVersion()
		if out, err = c.UpdateStatus(ctx, pod); err != nil {
			return nil, "", err
		}
	}
	same := out.GetResourceVersion() == old.GetResourceVersion()
	if c.DryRun { // which leaves it as it is
		same = apiequality.Semantic.DeepEqual(out, old)
	}
	if same {
		return out, "unchanged", nil
	}
	return out, "configured", nil
}

// keepLease keeps an object under the lease that it is under: whoever applies
// a manifest has not granted it.
func keepLease(obj, old registry.Object) {
	lease, ok := old.GetAnnotations()[registry.AnnotationLease]
	if !ok {
		return
	}
	annotations := obj.GetAnnotations()
	if annotations == nil {
		annotations = make(map[string]string)
	}
	annotations[registry.AnnotationLease] = lease
	obj.SetAnnotations(annotations)
}

func saysStatus(pod *corev1.Pod) bool {
	return pod.Status.Phase != "" || pod.Status.PodIP != "" || len(pod.Status.Conditions) > 0
}
