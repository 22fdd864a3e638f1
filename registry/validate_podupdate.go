package registry

import (
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podUpdatable are the fields of a Pod's spec that may change, in Kubernetes'
// words.
var podUpdatable = []string{
	"`spec.containers[*].image`",
	"`spec.initContainers[*].image`",
	"`spec.activeDeadlineSeconds`",
	"`spec.tolerations` (only additions to existing tolerations)",
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
}

// validatePodUpdate checks that nothing of a Pod's spec changes but what may:
// whoever runs it started it by what was there.
func validatePodUpdate(pod, old *corev1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	errs, stop := validateContainerUpdates(path.Child("containers"), pod.Spec.Containers, old.Spec.Containers)
	if stop {
		return errs
	}
	more, stop := validateContainerUpdates(path.Child("initContainers"), pod.Spec.InitContainers, old.Spec.InitContainers)
	if errs = append(errs, more...); stop {
		return errs
	}
	if err := validateDeadline(path.Child("activeDeadlineSeconds"), pod.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds); err != nil {
		return append(errs, err)
	}
	if !keepsTolerations(pod.Spec.Tolerations, old.Spec.Tolerations) {
		errs = append(errs, field.Forbidden(path.Child("tolerations"), "existing toleration can not be modified except its tolerationSeconds"))
	}
	rest := *pod.Spec.DeepCopy()
	for i := range rest.Containers {
		if rest.Containers[i].Image == ProcessImage && old.Spec.Containers[i].Image == ProcessImage {
			rest.Containers[i].Ports = old.Spec.Containers[i].Ports // learned from the process
		}
		rest.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range rest.InitContainers {
		rest.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	rest.ActiveDeadlineSeconds, rest.Tolerations = old.Spec.ActiveDeadlineSeconds, old.Spec.Tolerations
	if grace := old.Spec.TerminationGracePeriodSeconds; grace != nil && *grace < 0 && deref(rest.TerminationGracePeriodSeconds, 0) == 1 {
		rest.TerminationGracePeriodSeconds = grace
	}
	if !apiequality.Semantic.DeepEqual(rest, old.Spec) {
		errs = append(errs, field.Forbidden(path, "pod updates may not change fields other than "+
			strings.Join(podUpdatable, ",")+"\n"+diff.Diff(old.Spec, rest)))
	}
	return errs
}

// validateContainerUpdates also says whether there is no sense in comparing
// any further.
func validateContainerUpdates(path *field.Path, containers, old []corev1.Container) (errs field.ErrorList, stop bool) {
	if len(containers) != len(old) {
		return field.ErrorList{field.Forbidden(path, "pod updates may not add or remove containers")}, true
	}
	for i, c := range containers {
		if strings.TrimSpace(c.Image) != c.Image {
			errs = append(errs, field.Invalid(path.Index(i).Child("image"), c.Image, "must not have leading or trailing whitespace"))
		}
	}
	return errs, false
}

// validateDeadline checks that a deadline is set or comes nearer.
func validateDeadline(path *field.Path, now, was *int64) *field.Error {
	switch {
	case now == nil && was == nil:
		return nil
	case now == nil:
		return field.Invalid(path, now, "must not update from a positive integer to nil value")
	case *now < 0 || *now > math.MaxInt32:
		return field.Invalid(path, *now, validation.InclusiveRangeError(0, math.MaxInt32))
	case was != nil && *was < *now:
		return field.Invalid(path, *now, "must be less than or equal to previous value")
	}
	return nil
}

// keepsTolerations reports whether each of old is in now, for however long.
func keepsTolerations(now, old []corev1.Toleration) bool {
	for _, was := range old {
		kept := false
		for _, t := range now {
			was.TolerationSeconds = t.TolerationSeconds
			kept = kept || was == t
		}
		if !kept {
			return false
		}
	}
	return true
}
