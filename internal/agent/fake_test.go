package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"usher/registry"
)

// fakeAPI is a daemon in memory: Pods under leases that end when a test says
// so. It logs what changed, in order, together with what the processes wrote.
type fakeAPI struct {
	mu       sync.Mutex
	latency  time.Duration // of a Delete with a grace period
	down     bool
	mute     int               // Creates to come whose answer gets lost
	faster   func(*corev1.Pod) // what somebody does before the next UpdateStatus
	pods     map[registry.Key]*corev1.Pod
	events   map[registry.Key]*corev1.Event
	leases   map[string]bool
	count    int // of names, UIDs and addresses given
	revision int
	log      []string
	changed  chan struct{} // closed when log grows
	watchers []*watch.RaceFreeFakeWatcher
}

func newFakeAPI() *fakeAPI {
	return &fakeAPI{
		pods:    make(map[registry.Key]*corev1.Pod),
		events:  make(map[registry.Key]*corev1.Event),
		leases:  make(map[string]bool),
		changed: make(chan struct{}),
	}
}

var errDown = errors.New("dial unix usher.sock: connect: connection refused")

// begin locks the fake for a request, or refuses it.
func (f *fakeAPI) begin() error {
	f.mu.Lock()
	if f.down {
		f.mu.Unlock()
		return errDown
	}
	return nil
}

func (f *fakeAPI) noteLocked(format string, a ...any) {
	f.log = append(f.log, fmt.Sprintf(format, a...))
	close(f.changed)
	f.changed = make(chan struct{})
}

// Write takes the output of the agent and its processes into the log.
func (f *fakeAPI) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for line := range strings.Lines(string(p)) {
		f.noteLocked("%s", strings.TrimSpace(line))
	}
	return len(p), nil
}

func (f *fakeAPI) announceLocked(t watch.EventType, pod *corev1.Pod) {
	for _, w := range f.watchers {
		if !w.IsStopped() {
			w.Action(t, pod.DeepCopy())
		}
	}
}

func (f *fakeAPI) GrantLease(context.Context, time.Duration) (string, error) {
	if err := f.begin(); err != nil {
		return "", err
	}
	defer f.mu.Unlock()
	f.count++
	name := fmt.Sprintf("lease-%d", f.count)
	f.leases[name] = true
	f.noteLocked("grant")
	return name, nil
}

func (f *fakeAPI) RenewLease(_ context.Context, name string) error {
	if err := f.begin(); err != nil {
		return err
	}
	defer f.mu.Unlock()
	if !f.leases[name] {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "leases"}, name)
	}
	return nil
}

func (f *fakeAPI) RevokeLease(_ context.Context, name string) error {
	if err := f.begin(); err != nil {
		return err
	}
	defer f.mu.Unlock()
	f.noteLocked("revoke")
	f.expireLocked(name)
	return nil
}

// expire ends every lease, as when the daemon was away for longer than their
// time.
func (f *fakeAPI) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.leases {
		f.expireLocked(name)
	}
}

func (f *fakeAPI) expireLocked(name string) {
	delete(f.leases, name)
	for key, pod := range f.pods {
		if pod.Annotations[registry.AnnotationLease] == name {
			delete(f.pods, key)
			f.noteLocked("expired %s", pod.Name)
			f.announceLocked(watch.Deleted, pod)
		}
	}
}

func (f *fakeAPI) Get(_ context.Context, key registry.Key) (registry.Object, error) {
	if err := f.begin(); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	if pod := f.pods[key]; pod != nil {
		return pod.DeepCopy(), nil
	}
	if ev := f.events[key]; ev != nil {
		return ev.DeepCopy(), nil
	}
	return nil, apierrors.NewNotFound(key.Kind.GroupResource(), key.Name)
}

func (f *fakeAPI) Create(_ context.Context, obj registry.Object) (registry.Object, error) {
	if err := f.begin(); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	key := registry.KeyOf(obj)
	if ev, ok := obj.(*corev1.Event); ok {
		if f.events[key] != nil {
			return nil, apierrors.NewAlreadyExists(key.Kind.GroupResource(), key.Name)
		}
		return f.putEventLocked(ev), nil
	}
	pod := obj.(*corev1.Pod).DeepCopy()
	if f.pods[key] != nil {
		return nil, apierrors.NewAlreadyExists(key.Kind.GroupResource(), key.Name)
	}
	if !f.leases[pod.Annotations[registry.AnnotationLease]] {
		return nil, apierrors.NewBadRequest("the lease has ended")
	}
	f.count++
	pod.UID = types.UID(fmt.Sprint("uid-", f.count))
	if pod.Status.PodIP == "" {
		pod.Status.PodIP = fmt.Sprintf("127.244.%d.%d", os.Getpid()%251, f.count)
	}
	registry.SetDefaults(pod)
	f.writeLocked(pod)
	f.noteLocked("create %s ready=%t", pod.Name, isReady(pod))
	f.announceLocked(watch.Added, pod)
	if f.mute > 0 {
		f.mute--
		return nil, errDown
	}
	return pod.DeepCopy(), nil
}

// putEventLocked writes an Event and logs its first line.
func (f *fakeAPI) putEventLocked(ev *corev1.Event) *corev1.Event {
	f.events[registry.KeyOf(ev)] = ev.DeepCopy()
	f.noteLocked("event %s x%d %s: %s", ev.InvolvedObject.Name, ev.Count, ev.Reason, strings.SplitN(ev.Message, "\n", 2)[0])
	return ev
}

// Update writes an Event: nothing else of the agent's is written whole.
func (f *fakeAPI) Update(_ context.Context, obj registry.Object) (registry.Object, error) {
	if err := f.begin(); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	return f.putEventLocked(obj.(*corev1.Event)), nil
}

func (f *fakeAPI) writeLocked(pod *corev1.Pod) {
	f.revision++
	pod.ResourceVersion = strconv.Itoa(f.revision)
	f.pods[registry.KeyOf(pod)] = pod
}

func (f *fakeAPI) UpdateStatus(_ context.Context, obj registry.Object) (registry.Object, error) {
	if err := f.begin(); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	key := registry.KeyOf(obj)
	pod := f.pods[key]
	if pod == nil || pod.UID != obj.GetUID() {
		return nil, apierrors.NewNotFound(key.Kind.GroupResource(), key.Name)
	}
	pod = pod.DeepCopy()
	if f.faster != nil {
		f.faster(pod)
		f.writeLocked(pod)
		f.faster = nil
	}
	if was := obj.GetResourceVersion(); was != "" && was != pod.ResourceVersion {
		return nil, apierrors.NewConflict(key.Kind.GroupResource(), key.Name, errors.New("it changed"))
	}
	pod = pod.DeepCopy()
	pod.Status, pod.Labels = obj.(*corev1.Pod).Status, obj.GetLabels()
	f.writeLocked(pod)
	f.noteLocked("status %s %s ready=%t", pod.Name, pod.Status.Phase, isReady(pod))
	f.announceLocked(watch.Modified, pod)
	return pod.DeepCopy(), nil
}

func (f *fakeAPI) Delete(ctx context.Context, key registry.Key, opts metav1.DeleteOptions) error {
	if *opts.GracePeriodSeconds > 0 {
		f.mu.Lock()
		latency := f.latency
		f.noteLocked("asked to delete %s", key.Name)
		f.mu.Unlock()
		select {
		case <-time.After(latency):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := f.begin(); err != nil {
		return err
	}
	defer f.mu.Unlock()
	pod := f.pods[key]
	if pod == nil {
		return apierrors.NewNotFound(key.Kind.GroupResource(), key.Name)
	}
	if p := opts.Preconditions; p != nil && *p.UID != pod.UID {
		return apierrors.NewConflict(key.Kind.GroupResource(), key.Name, errors.New("UID"))
	}
	f.noteLocked("delete %s grace=%d", pod.Name, *opts.GracePeriodSeconds)
	if *opts.GracePeriodSeconds == 0 {
		delete(f.pods, key)
		f.announceLocked(watch.Deleted, pod)
		return nil
	}
	pod = pod.DeepCopy()
	pod.DeletionTimestamp = new(metav1.Now())
	pod.DeletionGracePeriodSeconds = opts.GracePeriodSeconds
	f.pods[key] = pod
	f.announceLocked(watch.Modified, pod)
	return nil
}

func (f *fakeAPI) Watch(context.Context, *registry.Kind, string) (watch.Interface, error) {
	if err := f.begin(); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	w := watch.NewRaceFreeFake()
	f.watchers = append(f.watchers, w)
	return w, nil
}

// setDown makes every request fail, or answer again. Watches break.
func (f *fakeAPI) setDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
	for _, w := range f.watchers {
		w.Stop()
	}
	f.watchers = nil
}

// await waits until the log has count lines that begin with prefix.
func (f *fakeAPI) await(t *testing.T, count int, prefix string) {
	t.Helper()
	limit := time.After(40 * time.Second)
	for {
		f.mu.Lock()
		found := 0
		for _, line := range f.log {
			if strings.HasPrefix(line, prefix) {
				found++
			}
		}
		changed := f.changed
		f.mu.Unlock()
		if found >= count {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("%d lines %q in the log, want %d:\n%s", found, prefix, count, strings.Join(f.lines(), "\n"))
		}
	}
}

// lines returns the lines of the log, of those that begin with one of prefixes
// if there are any.
func (f *fakeAPI) lines(prefixes ...string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(prefixes) == 0 {
		return slices.Clone(f.log)
	}
	var found []string
	for _, line := range f.log {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(line, p) }) {
			found = append(found, line)
		}
	}
	return found
}

func (f *fakeAPI) pod(name string) *corev1.Pod {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pods[registry.Key{Kind: registry.Pods, Namespace: "finance", Name: name}]
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
