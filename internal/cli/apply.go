package cli

import (
	"context"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"usher/internal/api"
	"usher/internal/client"
	"usher/registry"
)

func newApplyCommand(g *globals) *cobra.Command {
	w := &writeCommand{globals: g, verb: "applying", send: applyManifest, named: true, list: true}
	return w.command(&cobra.Command{
		Use: "apply -f FILE", Short: "Create or change objects to be as manifests say",
		Long: `Create objects, or change them to be as their manifests say. What a manifest no
longer says goes back to its default; what others have set stays, such as the
address of a Service, unless the manifest says otherwise. (This is server-side
apply, which takes over what is in conflict.)

The objects are checked before the first one is sent: when one is wrong, none is
applied. apply returns when the daemon serves what was applied.`,
		Example: `  usher apply -f service.yaml
  usher apply -R -f manifests/
  cat *.yaml | usher apply -n finance -f -`,
	})
}

// applyManifest creates or changes an object as the command line's.
func applyManifest(ctx context.Context, c *client.Client, m manifest) (registry.Object, string, error) {
	return applyAs(ctx, c, m, api.CommandLine)
}

// applyAs creates or changes an object in the name of a field manager. The
// server says by the resourceVersion whether anything changed.
func applyAs(ctx context.Context, c *client.Client, m manifest, manager string) (registry.Object, string, error) {
	key := registry.KeyOf(m.object)
	old, err := c.Get(ctx, key)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, "", err
	}
	options := client.ApplyOptions{FieldManager: manager, Force: true}
	out, created, err := c.Apply(ctx, key, m.document, options)
	if err != nil {
		return nil, "", err
	}
	if pod, ok := m.object.(*corev1.Pod); ok && saysStatus(pod) && !(c.DryRun && created) {
		// There is no kubelet: a manifest may say how its Pod is.
		options.Subresource = "status"
		with, _, err := c.Apply(ctx, key, m.document, options)
		if err != nil {
			return nil, "", err
		}
		if c.DryRun { // which knows nothing of the one before it
			out.(*corev1.Pod).Status = with.(*corev1.Pod).Status
		} else {
			out = with
		}
	}
	switch {
	case created:
		return out, "created", nil
	case old != nil && (out.GetResourceVersion() == old.GetResourceVersion() && !c.DryRun || c.DryRun && sameButOwners(out, old)):
		return out, "unchanged", nil
	}
	return out, "configured", nil
}

// sameButOwners reports whether two objects differ in who owns their fields at
// most.
func sameButOwners(a, b registry.Object) bool {
	return apiequality.Semantic.DeepEqual(withoutOwners(a), withoutOwners(b))
}

// withoutOwners returns obj without the account of who has set what, which is
// for programs.
func withoutOwners(obj registry.Object) registry.Object {
	obj = obj.DeepCopyObject().(registry.Object)
	obj.SetManagedFields(nil)
	return obj
}

func saysStatus(pod *corev1.Pod) bool {
	return pod.Status.Phase != "" || pod.Status.PodIP != "" || len(pod.Status.Conditions) > 0
}
