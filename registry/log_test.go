package registry

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// heap returns how much memory is in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// readyPod is one of the Pods of the app payment, ready or not.
func readyPod(t testing.TB, i int, ready bool) *corev1.Pod {
	p := objects(t, 1, pod(fmt.Sprintf("p%d", i), fmt.Sprintf("10.1.%d.%d", i/250, 1+i%250), ""))[0].(*corev1.Pod)
	if !ready {
		p.Status.Conditions[0].Status = corev1.ConditionFalse
	}
	return p
}

// TestLogMemory changes what is large, again and again. What the Store
// remembers for its watchers is bounded, and what it costs is not made up: the
// heap grows by what the budget allows, neither far more nor far less.
func TestLogMemory(t *testing.T) {
	const budget = logBytes / 4 // so that it takes a quarter of the time
	big := func(int) Object {
		p := readyPod(t, 0, true)
		p.Annotations = map[string]string{"big": strings.Repeat("x", 1<<20)}
		return p
	}
	// A few bytes of JSON each, and half a kilobyte of memory.
	wide := func(int) Object {
		p := readyPod(t, 0, true)
		p.Spec.Containers = make([]corev1.Container, 2000)
		return p
	}
	// The readiness of one Pod after the other.
	flips := func(pods int) func(int) Object {
		both := make([][2]*corev1.Pod, pods)
		for i := range both {
			both[i] = [2]*corev1.Pod{readyPod(t, i, true), readyPod(t, i, false)}
		}
		return func(i int) Object { return both[i%pods][i/pods%2].DeepCopy() }
	}
	tests := []struct {
		name    string
		changes int
		next    func(int) Object
	}{
		{"a Service with 100 Pods", 1200, flips(100)},
		{"a Service with 500 Pods", 600, flips(500)},
		{"a Pod of 1 MB", 100, big},
		{"a Pod of many containers", 100, wide},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewStore()
			s.log.budget = budget
			s.Replace(1, objects(t, 1, payment))
			before := heap()
			for i := range tt.changes {
				obj := tt.next(i)
				s.Apply(int64(i+2), []Write{{KeyOf(obj), obj}})
			}
			grown := heap() - before
			t.Logf("%d changes: the heap grew by %d MB, %d Commits are remembered", tt.changes, grown>>20, len(s.log.commits))
			if grown > budget+budget/4 || grown < budget/2 {
				t.Errorf("the heap grew by %d MB, the budget is %d MB", grown>>20, budget>>20)
			}
			runtime.KeepAlive(s)
		})
	}
}

// TestLogKeepsNewest makes Commits that are beyond the budget each: the last
// one can be read, and no other.
func TestLogKeepsNewest(t *testing.T) {
	s := NewStore()
	s.log.budget = 1
	s.Replace(1, nil)
	for r := int64(2); r < 5; r++ {
		s.Apply(r, []Write{{KeyOf(readyPod(t, 0, true)), readyPod(t, 0, true)}})
	}
	w, err := s.Watch(3)
	if err != nil {
		t.Fatal(err)
	}
	if commits, err := w.Next(t.Context()); err != nil || len(commits) != 1 || commits[0].Revision != 4 {
		t.Errorf("watch from revision 3: %d commits, %v", len(commits), err)
	}
	if _, err := s.Watch(2); !errors.Is(err, ErrExpired) {
		t.Errorf("watch from a forgotten revision: %v, want ErrExpired", err)
	}
}

// TestWatchFrom takes a Snapshot between two Commits of one revision: the
// Watch from there has the second one, and nothing twice.
func TestWatchFrom(t *testing.T) {
	s := NewStore()
	s.Replace(5, nil)
	s.Apply(6, writes(objects(t, 6, payment)))
	between := s.Snapshot()
	lost := objects(t, 4, pod("lost", "10.1.0.5", ""))
	s.Replace(6, append(objects(t, 6, payment), lost...))
	s.Apply(7, nil)
	tests := []struct {
		name  string
		watch func() (*Watch, error)
		want  []int64 // numbers
	}{
		{"the Snapshot between them", func() (*Watch, error) { return s.WatchFrom(between), nil }, []int64{3, 4}},
		{"the Snapshot after them", func() (*Watch, error) { return s.WatchFrom(s.Snapshot()), nil }, nil},
		{"their revision", func() (*Watch, error) { return s.Watch(6) }, []int64{3, 4}},
		{"the revision before", func() (*Watch, error) { return s.Watch(5) }, []int64{2, 3, 4}},
		{"the revision after", func() (*Watch, error) { return s.Watch(7) }, nil},
	}
	for _, tt := range tests {
		w, err := tt.watch()
		if err != nil {
			t.Fatal(err)
		}
		commits, _, err := w.poll()
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, c := range commits {
			got = append(got, c.Number)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("Commits after %s (-want +got):\n%s", tt.name, diff)
		}
	}
	if _, err := s.Watch(8); !errors.Is(err, ErrExpired) {
		t.Errorf("watch from a revision that is not there yet: %v, want ErrExpired", err)
	}
	if n := s.Snapshot().Number(); n != 4 {
		t.Errorf("the Snapshot has number %d, want 4", n)
	}
}

// TestWatchForgotten has the first of two Commits of one revision forgotten.
func TestWatchForgotten(t *testing.T) {
	s := NewStore()
	s.log.budget = 1
	s.Replace(5, nil)
	s.Apply(6, writes(objects(t, 6, payment)))
	s.Replace(6, nil)
	w, err := s.Watch(6)
	if err != nil {
		t.Fatal(err)
	}
	if commits, _, err := w.poll(); err != nil || len(commits) != 1 || commits[0].Number != 3 {
		t.Errorf("watch from revision 6: %+v, %v; want the second of its Commits", commits, err)
	}
	// Once both are forgotten, who knows the state at their revision may have seen
	// one of them.
	s.Apply(7, writes(objects(t, 7, pod("a", "10.1.0.5", ""))))
	if _, err := s.Watch(6); !errors.Is(err, ErrExpired) {
		t.Errorf("watch from revision 6: %v", err)
	}
	if _, err := s.Watch(7); err != nil {
		t.Errorf("watch from revision 7: %v", err)
	}
}
