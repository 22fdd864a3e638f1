package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
	"usher/registry/etcd"
)

// eventTTL is how long an Event is kept, as Kubernetes' API server does.
const eventTTL = time.Hour

// leaseShare is for how long new Events go under the same lease: leases are
// few, keys are many.
const leaseShare = 10 * time.Minute

// An eventLease is the lease of new Events.
type eventLease struct {
	mu      sync.Mutex // guards the following
	id      etcd.LeaseID
	granted time.Time
}

// get returns the lease, and grants a new one when it is due.
func (l *eventLease) get(ctx context.Context, c *etcd.Client) (etcd.LeaseID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id != 0 && time.Since(l.granted) <= leaseShare {
		return l.id, nil
	}
	id, err := c.Grant(ctx, eventTTL+leaseShare)
	if err != nil {
		return 0, err
	}
	l.id, l.granted = id, time.Now()
	return id, nil
}

// drop forgets the lease: etcd has lost it.
func (l *eventLease) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id = 0
}

// A Recorder writes Events. The same Event again only counts.
type Recorder struct {
	writer *Writer
	node   string
	log    *slog.Logger
	queue  chan *corev1.Event
}

// NewRecorder returns a Recorder for the node.
func NewRecorder(w *Writer, node string, log *slog.Logger) *Recorder {
	return &Recorder{writer: w, node: node, log: log, queue: make(chan *corev1.Event, 256)}
}

// Event says something about an object: eventType is Normal or Warning, reason
// a word in CamelCase. It does not wait, and drops the Event when too many
// are waiting to be written.
func (r *Recorder) Event(about corev1.ObjectReference, eventType, reason, message string) {
	now := metav1.Time{Time: time.Now().UTC().Truncate(time.Second)}
	ev := registry.Events.New().(*corev1.Event)
	ev.Namespace = about.Namespace
	if ev.Namespace == "" {
		ev.Namespace = metav1.NamespaceDefault
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%s/%s/%s/%s", about.Kind, about.UID, r.node, eventType, reason, message))
	ev.Name = about.Name + "." + hex.EncodeToString(sum[:8])
	ev.InvolvedObject = about
	ev.Type, ev.Reason, ev.Message = eventType, reason, message
	ev.Source = corev1.EventSource{Component: "usher", Host: r.node}
	ev.ReportingController, ev.ReportingInstance = "usher.internal/usher", r.node
	ev.FirstTimestamp, ev.LastTimestamp, ev.Count = now, now, 1
	select {
	case r.queue <- ev:
	default:
		r.log.Warn("event dropped: too many at once", "object", about.Name, "reason", reason)
	}
}

// Run writes Events until ctx is done.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		select {
		case ev := <-r.queue:
			if err := r.write(ctx, ev); err != nil && ctx.Err() == nil {
				r.log.Warn("write event", "object", ev.InvolvedObject.Name, "reason", ev.Reason, "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *Recorder) write(ctx context.Context, ev *corev1.Event) error {
	old, _ := r.writer.Store.Snapshot().Get(registry.KeyOf(ev)).(*corev1.Event)
	if old == nil {
		_, err := r.writer.Create(ctx, ev.DeepCopy())
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
	} else {
		ev.Count = old.Count + 1
		ev.FirstTimestamp = old.FirstTimestamp
	}
	_, err := r.writer.Update(ctx, ev, "")
	return err
}

// Reference returns what an Event about obj points to.
func Reference(obj registry.Object) corev1.ObjectReference {
	kind := registry.KindOf(obj)
	return corev1.ObjectReference{
		Kind: kind.Kind, APIVersion: kind.GroupVersion().String(),
		Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(),
	}
}
