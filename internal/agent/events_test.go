package agent

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// An Event that repeats is counted, and written now and then; one with other
// words comes soon, if not at once.
func TestEventLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI()
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-0", Namespace: "finance", UID: "u"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}}}}
		l := newEventLog(api, pod, "laptop")
		take := func(message string) { l.take(t.Context(), note{reason: reasonUnhealthy, message: message}) }
		for range 26 { // every second
			take("a")
			time.Sleep(time.Second)
		}
		take("b")
		take("c") // too soon
		time.Sleep(otherEvent)
		take("d")
		time.Sleep(otherEvent)
		api.setDown(true)
		take("a")
		api.setDown(false)
		time.Sleep(sameEvent)
		take("a") // with the one that could not be written
		want := []string{
			"event web-0 x1 Unhealthy: a", "event web-0 x11 Unhealthy: a", "event web-0 x21 Unhealthy: a",
			"event web-0 x1 Unhealthy: b", "event web-0 x1 Unhealthy: d", "event web-0 x23 Unhealthy: a",
		}
		if diff := cmp.Diff(want, api.lines()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for _, ev := range api.events {
			if ev.InvolvedObject.FieldPath != "spec.containers{web}" || ev.InvolvedObject.UID != "u" || ev.Type != corev1.EventTypeWarning {
				t.Errorf("%+v", ev)
			}
		}
	})
}

// What happens once is written as it comes, and what is left at the end, but
// not for ever.
func TestEventLogOfTheUsual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI()
		l := newEventLog(api, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-0"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}}}}, "laptop")
		over, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			l.run(t.Context(), over)
		}()
		l.warn(reasonUnhealthy, "a")
		l.tell(reasonStarted, messageStarted) // at once
		synctest.Wait()
		close(over)
		<-done
		l.warn(reasonUnhealthy, "b")
		l.tell(reasonKilling, "c")
		l.run(t.Context(), over)
		api.setDown(true)
		l.tell(reasonKilling, "d")
		l.tell(reasonKilling, "e")
		l.run(t.Context(), over)
		want := []string{"event web-0 x1 Unhealthy: a", "event web-0 x1 Started: Container started", "event web-0 x1 Killing: c"}
		if diff := cmp.Diff(want, api.lines()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for _, ev := range api.events {
			if (ev.Type == corev1.EventTypeWarning) != (ev.Reason == reasonUnhealthy) {
				t.Errorf("%s is a %s", ev.Reason, ev.Type)
			}
		}
	})
}

// Nobody waits for the log, and its messages are bounded.
func TestEventLogWarn(t *testing.T) {
	l := newEventLog(newFakeAPI(), &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{}}}}, "")
	for range 100 {
		l.warn(reasonUnhealthy, "\xff"+strings.Repeat("é", maxMessage))
	}
	n := <-l.notes
	if want := "?" + strings.Repeat("é", maxMessage/2-1); n.message != want {
		t.Errorf("%d bytes, %q", len(n.message), n.message)
	}
}
