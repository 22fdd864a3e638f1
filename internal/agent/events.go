package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
)

const (
	// sameEvent is how often an Event that repeats is written. What happens
	// between is counted.
	sameEvent = 10 * time.Second

	// otherEvent is the pause before an Event with other words. A probe whose
	// output has the time in it must not fill the registry.
	otherEvent = 2 * time.Second

	// maxMessage is the longest message of an Event, in bytes.
	maxMessage = 1024
)

// Reasons of Events about a container, and their words, as the kubelet has them.
const (
	reasonStarted = "Started"
	reasonKilling = "Killing"
	reasonBackOff = "BackOff"

	messageStarted = "Container started"
	messageKilling = "Stopping container %s"
	messageBackOff = "Back-off restarting failed container %s in pod %s"
)

// A note is something that is worth an Event.
type note struct {
	reason, message string
	normal          bool // it happens once, and is not held back
}

// An eventLog writes Events about a Pod.
type eventLog struct {
	api    API
	about  corev1.ObjectReference
	node   string
	notes  chan note
	last   note      // of those that may repeat
	count  int32     // of last that have not been written
	before time.Time // when something was written
}

// newEventLog returns a log about the container of a Pod. Of notes that come
// while it cannot write, it takes a few.
func newEventLog(api API, pod *corev1.Pod, node string) *eventLog {
	return &eventLog{
		api: api, node: node, notes: make(chan note, 8),
		about: corev1.ObjectReference{
			Kind: registry.Pods.Kind, APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
			FieldPath: fmt.Sprintf("spec.containers{%s}", pod.Spec.Containers[0].Name),
		},
	}
}

// warn takes a note of something wrong, without waiting.
func (l *eventLog) warn(reason, message string) { l.note(note{reason: reason, message: message}) }

// tell takes a note of something that is as it should be, without waiting.
func (l *eventLog) tell(reason, message string) {
	l.note(note{reason: reason, message: message, normal: true})
}

func (l *eventLog) note(n note) {
	n.message = strings.ToValidUTF8(n.message, "?")
	if len(n.message) > maxMessage {
		n.message = strings.ToValidUTF8(n.message[:maxMessage], "")
	}
	select {
	case l.notes <- n:
	default:
	}
}

// run writes Events until over is closed, and then those that are left and no
// warnings, until ctx is done or one cannot be written.
func (l *eventLog) run(ctx context.Context, over <-chan struct{}) {
	for {
		select {
		case n := <-l.notes:
			l.take(ctx, n)
			continue
		case <-over:
		}
		break
	}
	for {
		select {
		case n := <-l.notes:
			if n.normal && l.write(ctx, n, 1) != nil {
				return
			}
		default:
			return
		}
	}
}

func (l *eventLog) take(ctx context.Context, n note) {
	if n.normal {
		_ = l.write(ctx, n, 1)
		return
	}
	pause := sameEvent
	if n != l.last {
		pause = otherEvent
	}
	if !l.before.IsZero() && time.Since(l.before) < pause {
		if n == l.last {
			l.count++
		}
		return
	}
	if n != l.last {
		l.last, l.count = n, 0
	}
	l.count++
	if l.write(ctx, l.last, l.count) == nil {
		l.count, l.before = 0, time.Now()
	}
}

// write writes a note that was taken so often: the same again only counts.
func (l *eventLog) write(ctx context.Context, n note, count int32) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	now := metav1.Time{Time: time.Now().UTC().Truncate(time.Second)}
	ev := registry.Events.New().(*corev1.Event)
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%s/%s", l.about.UID, l.node, n.reason, n.message))
	ev.Namespace, ev.Name = l.about.Namespace, l.about.Name+"."+hex.EncodeToString(sum[:8])
	ev.InvolvedObject = l.about
	ev.Type, ev.Reason, ev.Message = corev1.EventTypeWarning, n.reason, n.message
	if n.normal {
		ev.Type = corev1.EventTypeNormal
	}
	ev.Source = corev1.EventSource{Component: "usher", Host: l.node}
	ev.ReportingController, ev.ReportingInstance = "usher.internal/agent", l.node
	ev.FirstTimestamp, ev.LastTimestamp, ev.Count = now, now, count
	_, err := l.api.Create(ctx, ev)
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	obj, err := l.api.Get(ctx, registry.KeyOf(ev))
	if err != nil {
		return err
	}
	was := obj.(*corev1.Event).DeepCopy()
	was.Count, was.LastTimestamp = was.Count+count, now
	_, err = l.api.Update(ctx, was)
	return err
}
