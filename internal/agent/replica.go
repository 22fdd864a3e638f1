package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/podlog"
	"usher/registry"
)

const (
	// requestTimeout bounds one request to the API: a daemon that hangs must
	// not keep a process from being stopped.
	requestTimeout = 3 * time.Second

	// retryPeriod is the pause before a Pod is written again.
	retryPeriod = 500 * time.Millisecond

	// silentFor is how long a process may take to listen before the agent says
	// where it is expected to.
	silentFor = 5 * time.Second
)

// A replica is one Pod and its process, or one process after the other.
type replica struct {
	*group
	workload Workload
	name     string        // of the Pod
	poke     chan struct{} // capacity 1: something may have happened to the Pod
	gone     chan struct{} // closed once the last process has ended

	pod     *corev1.Pod            // as the API returned it last
	status  corev1.PodStatus       // what the Pod's status is to be
	renewed <-chan struct{}        // closed when the Pod needs another lease
	network Network                // nil: that of the agent
	ports   []corev1.ContainerPort // where the process listens in its Network; nil: not known
	check   *probe
	prober  *prober // nil when the Pod has no readinessProbe
	events  *eventLog
	environ []string       // of the process
	log     *podlog.Writer // nil: it is not kept
	process *process       // nil between two of them
	began   time.Time      // the process
	backOff backOff
	news    string // to be said once the status is written
	told    string // the last error that was said
}

// wake makes the replica look at its Pod.
func (r *replica) wake() {
	select {
	case r.poke <- struct{}{}:
	default: // it will look anyway
	}
}

// create writes the Pod under the present lease and takes it as stored. A Pod
// that is under this lease already was written by a request whose answer got
// lost.
func (r *replica) create(ctx context.Context, pod *corev1.Pod) error {
	name, changed := r.lease.current()
	pod = pod.DeepCopy()
	pod.ObjectMeta = metav1.ObjectMeta{
		Name: pod.Name, Namespace: pod.Namespace, Labels: pod.Labels, Annotations: pod.Annotations,
	}
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, registry.AnnotationLease, name)
	obj, err := r.API.Create(ctx, pod)
	if apierrors.IsAlreadyExists(err) {
		was, errGet := r.API.Get(ctx, registry.KeyOf(pod))
		if errGet == nil && was.GetAnnotations()[registry.AnnotationLease] == name {
			obj, err = was, nil
		}
	}
	if err != nil {
		return err
	}
	r.pod, r.renewed = obj.(*corev1.Pod), changed
	return nil
}

// deletedError says that somebody deleted the Pod.
type deletedError struct {
	grace *int64 // in seconds; nil when the Pod is gone already
}

func (*deletedError) Error() string { return "the pod has been deleted" }

// reconcile brings the Pod in the registry in line with the process. It
// returns a deletedError when the Pod has been deleted there.
func (r *replica) reconcile(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	obj, err := r.API.Get(ctx, registry.KeyOf(r.pod))
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if pod, ok := obj.(*corev1.Pod); err == nil && ok && pod.UID == r.pod.UID {
		return r.update(ctx, pod)
	}
	// The Pod is gone: either with the lease, or somebody forced it out.
	name, err := r.lease.renew(ctx)
	if err != nil {
		return err
	}
	if name == r.pod.Annotations[registry.AnnotationLease] {
		return &deletedError{}
	}
	return r.recreate(ctx)
}

// update brings the present Pod in line.
func (r *replica) update(ctx context.Context, pod *corev1.Pod) error {
	if pod.DeletionTimestamp != nil {
		r.pod = pod
		return &deletedError{pod.DeletionGracePeriodSeconds}
	}
	if name, _ := r.lease.current(); name != pod.Annotations[registry.AnnotationLease] {
		// It has outlived its lease and may go at any moment.
		if err := r.remove(ctx); err != nil {
			return err
		}
		return r.recreate(ctx)
	}
	pod = pod.DeepCopy()
	if r.describe(pod) {
		obj, err := r.API.Update(ctx, pod)
		if apierrors.IsConflict(err) { // somebody else was faster: look again
			return r.reconcile(ctx)
		}
		if err != nil {
			return err
		}
		pod = obj.(*corev1.Pod)
	}
	if apiequality.Semantic.DeepEqual(pod.Status, r.status) {
		r.pod = pod
		return nil
	}
	pod.Status = *r.status.DeepCopy()
	obj, err := r.API.UpdateStatus(ctx, pod)
	if apierrors.IsConflict(err) { // labels go with a status: somebody else's must not be lost
		return r.reconcile(ctx)
	}
	if err != nil {
		return err
	}
	r.pod = obj.(*corev1.Pod)
	r.announce()
	return nil
}

// announce says how the Pod has turned. It is called once the daemon knows, so
// that whoever reads "ready" can connect.
func (r *replica) announce() {
	if r.news != "" {
		r.say("pod/%s %s", r.name, r.news)
		r.news = ""
	}
}

// recreate writes the Pod anew, with the name, the address and the status that
// it had.
func (r *replica) recreate(ctx context.Context) error {
	pod := r.pod.DeepCopy()
	pod.Status = *r.status.DeepCopy()
	if err := r.create(ctx, pod); err != nil {
		return err
	}
	r.say("pod/%s registered again (%s)", r.name, r.pod.Status.PodIP)
	r.announce()
	return nil
}

// remove deletes the Pod at once. It is not an error if it is gone.
func (r *replica) remove(ctx context.Context) error {
	return r.delete(ctx, 0)
}

// delete deletes the Pod with a grace period in seconds.
func (r *replica) delete(ctx context.Context, grace int64) error {
	err := r.API.Delete(ctx, registry.KeyOf(r.pod), metav1.DeleteOptions{
		GracePeriodSeconds: &grace,
		Preconditions:      &metav1.Preconditions{UID: &r.pod.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // gone, or somebody else's by now
		return nil
	}
	return err
}

// turn notes that the process has turned ready, or not ready because of err.
func (r *replica) turn(err error) {
	was := r.status.ContainerStatuses[0].Ready
	setReady(&r.status, err == nil, time.Now())
	r.listens()
	if was && err == nil {
		return // it listens at other ports than before
	}
	r.news = fmt.Sprintf("ready (%s)", r.address())
	if err != nil {
		r.news = fmt.Sprintf("not ready: %v", err)
		if r.prober != nil {
			r.news = "not ready: Readiness probe failed: " + strings.TrimSpace(err.Error())
		}
	}
}

// address returns where the process listens, for people: its first port stands
// for all of them.
func (r *replica) address() string {
	ports := r.ports
	if ports == nil {
		ports = r.pod.Spec.Containers[0].Ports
	}
	if len(ports) == 0 {
		return r.pod.Status.PodIP
	}
	number := given(r.network, ports[0].Protocol, uint16(ports[0].ContainerPort))
	return net.JoinHostPort(r.pod.Status.PodIP, strconv.Itoa(int(number)))
}

// sayWhereToListen helps with a program that does not look at HOST and PORT.
func (r *replica) sayWhereToListen() {
	if r.prober != nil {
		if failed := r.prober.failed.Load(); failed != nil {
			r.say("pod/%s not ready: Readiness probe failed: %s", r.name, strings.TrimSpace(*failed))
		}
		return
	}
	if foreign := r.check.foreign.Load(); foreign != nil {
		r.say("pod/%s not ready: %v; the program finds its address in $HOST and $PORT", r.name, foreign)
		return
	}
	if r.network != nil {
		r.say("pod/%s not ready: nothing listens on %s yet", r.name, r.address())
		return
	}
	r.say("pod/%s not ready: nothing listens on %s yet; the program finds its address in $HOST and $PORT", r.name, r.address())
}

// try makes one request within its time, and says what came of it if nothing
// did.
func (r *replica) try(ctx context.Context, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := request(ctx)
	r.complain(err)
	return err
}

// complain says what the API has against the Pod, once. That the API does not
// answer at all is the lease's to say.
func (r *replica) complain(err error) {
	if err == nil || !errors.As(err, new(apierrors.APIStatus)) {
		r.told = ""
		return
	}
	if text := err.Error(); text != r.told {
		r.told = text
		r.say("pod/%s: %s", r.name, text)
	}
}
