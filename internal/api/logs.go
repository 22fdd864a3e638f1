package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"usher/internal/podlog"
)

// podLog answers with what the process of a Pod has written.
func (s *Server) podLog(w http.ResponseWriter, r *http.Request, t target) error {
	o, err := parseLogOptions(r.URL.Query())
	if err != nil {
		return err
	}
	snapshot, err := s.snapshot(r.Context(), 0)
	if err != nil {
		return err
	}
	pod, _ := snapshot.Get(t.key()).(*corev1.Pod)
	if pod == nil {
		return apierrors.NewNotFound(t.kind.GroupResource(), t.name)
	}
	if err := checkLogOptions(pod, &o); err != nil {
		return err
	}
	if s.opts.Logs == nil {
		return errNoLog(pod)
	}
	ctx, cancel := s.watchContext(r.Context(), nil)
	defer cancel()
	out := &logStream{w: w, to: newDeadlineWriter(w, s.limits.stall)}
	if err := out.to.pause(); err != nil { // the first line may be long in coming
		return fmt.Errorf("write a log: %w", err)
	}
	err = s.opts.Logs(ctx, out, pod, o)
	_ = out.to.begin() // for what is written below; a client that is gone needs none
	switch {
	case out.begun: // nothing else can be said any more
		return nil
	case errors.Is(err, podlog.ErrNotKept):
		return errNoLog(pod)
	case err != nil:
		return err
	}
	out.begin()
	return nil
}

// errNoLog is the answer about a Pod that nothing is kept of.
func errNoLog(pod *corev1.Pod) error {
	return apierrors.NewBadRequest(fmt.Sprintf("the log of pod %q is not kept here: "+
		"the daemon of its node keeps what `usher run` starts for the daemon's own user", pod.Name))
}

// parseLogOptions reads the query of a log.
func parseLogOptions(query url.Values) (corev1.PodLogOptions, error) {
	o := corev1.PodLogOptions{Container: query.Get("container"), Previous: isTrue(query["previous"])}
	o.Follow, o.Timestamps = isTrue(query["follow"]), isTrue(query["timestamps"])
	for name, value := range map[string]**int64{
		"sinceSeconds": &o.SinceSeconds, "tailLines": &o.TailLines, "limitBytes": &o.LimitBytes,
	} {
		given := query[name]
		if err := runtime.Convert_Slice_string_To_Pointer_int64(&given, value, nil); err != nil {
			return o, apierrors.NewBadRequest(err.Error())
		}
	}
	if text := query.Get("sinceTime"); text != "" {
		since, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return o, apierrors.NewBadRequest(err.Error())
		}
		o.SinceTime = &metav1.Time{Time: since}
	}
	var errs field.ErrorList
	if o.TailLines != nil && *o.TailLines < 0 {
		errs = append(errs, field.Invalid(field.NewPath("tailLines"), *o.TailLines, "must be greater than or equal to 0"))
	}
	if o.LimitBytes != nil && *o.LimitBytes < 1 {
		errs = append(errs, field.Invalid(field.NewPath("limitBytes"), *o.LimitBytes, "must be greater than 0"))
	}
	switch {
	case o.SinceSeconds != nil && o.SinceTime != nil:
		errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	case o.SinceSeconds != nil && *o.SinceSeconds < 1:
		errs = append(errs, field.Invalid(field.NewPath("sinceSeconds"), *o.SinceSeconds, "must be greater than 0"))
	}
	if len(errs) > 0 {
		return o, apierrors.NewInvalid(schema.GroupKind{Kind: "PodLogOptions"}, "", errs)
	}
	return o, nil
}

// isTrue reads a boolean of a query as Kubernetes does: whatever is there and
// is not a way to say false is true.
func isTrue(values []string) (is bool) {
	_ = runtime.Convert_Slice_string_To_bool(&values, &is, nil) // there is no error
	return is
}

// checkLogOptions refuses what the Pod has no log for. A process is the only
// container of its Pod, and is not started again.
func checkLogOptions(pod *corev1.Pod, o *corev1.PodLogOptions) error {
	if len(pod.Spec.Containers) == 0 {
		return errNoLog(pod)
	}
	name := pod.Spec.Containers[0].Name
	if o.Container == "" {
		o.Container = name
	}
	if o.Container != name {
		return apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", o.Container, pod.Name))
	}
	if o.Previous {
		return apierrors.NewBadRequest(fmt.Sprintf("previous terminated container %q in pod %q not found", name, pod.Name))
	}
	return nil
}

// A logStream writes text as it comes, to a client that may be slow.
type logStream struct {
	w     http.ResponseWriter
	to    deadlineWriter
	begun bool
}

func (l *logStream) begin() {
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		l.w.WriteHeader(http.StatusOK)
	}
}

func (l *logStream) Write(p []byte) (int, error) {
	l.begin()
	n, err := l.to.Write(p)
	if err == nil {
		err = l.to.flush()
	}
	return n, err
}
