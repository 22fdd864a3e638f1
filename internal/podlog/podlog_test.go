package podlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var pod = types.NamespacedName{Namespace: "finance", Name: "pay-0"}

// stays says that the Pod is there.
func stays() bool { return false }

func newWriter(t *testing.T, dir string) *Writer {
	t.Helper()
	w, err := Create(dir, pod)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func read(t *testing.T, dir string, o corev1.PodLogOptions) string {
	t.Helper()
	var out bytes.Buffer
	if err := Copy(t.Context(), &out, dir, pod, o, stays); err != nil {
		t.Fatalf("%+v: %v", o, err)
	}
	return out.String()
}

// TestCopy reads a log in each way.
func TestCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := newWriter(t, dir)
		stdout, stderr := w.Stream("stdout"), w.Stream("stderr")
		fmt.Fprint(stdout, "one\ntw")
		fmt.Fprint(stderr, "oops\n")
		time.Sleep(10 * time.Second)
		fmt.Fprint(stdout, "o\n\nend")
		stdout.Flush()
		begun := time.Now().Add(-10 * time.Second)
		tests := []struct {
			name string
			o    corev1.PodLogOptions
			want string
		}{
			{"all", corev1.PodLogOptions{}, "one\noops\ntwo\n\nend\n"},
			{"tail", corev1.PodLogOptions{TailLines: new(int64(2))}, "\nend\n"},
			{"a long tail", corev1.PodLogOptions{TailLines: new(int64(9))}, "one\noops\ntwo\n\nend\n"},
			{"no tail", corev1.PodLogOptions{TailLines: new(int64(0))}, ""},
			{"since", corev1.PodLogOptions{SinceSeconds: new(int64(5))}, "two\n\nend\n"},
			{"since a time", corev1.PodLogOptions{SinceTime: &metav1.Time{Time: begun.Add(time.Second)}}, "two\n\nend\n"},
			{"bytes", corev1.PodLogOptions{LimitBytes: new(int64(6))}, "one\noo"},
			{"bytes of the tail", corev1.PodLogOptions{LimitBytes: new(int64(2)), TailLines: new(int64(1))}, "en"},
			{"timestamps", corev1.PodLogOptions{Timestamps: true, TailLines: new(int64(1))}, time.Now().UTC().Format(timeFormat) + " end\n"},
		}
		for _, tt := range tests {
			if got := read(t, dir, tt.o); got != tt.want {
				t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			}
		}
	})
}

// TestLongLine checks that a line without an end is written in pieces, and read
// as one.
func TestLongLine(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, dir)
	long := strings.Repeat("x", 5*maxLine+7)
	s := w.Stream("stdout")
	fmt.Fprint(s, "before\n", long, "\nafter\n")
	if got := read(t, dir, corev1.PodLogOptions{}); got != "before\n"+long+"\nafter\n" {
		t.Errorf("%d bytes: %.80q", len(got), got)
	}
	if got := read(t, dir, corev1.PodLogOptions{TailLines: new(int64(2))}); got != long+"\nafter\n" {
		t.Errorf("tail: %d bytes: %.80q", len(got), got)
	}
	if got := read(t, dir, corev1.PodLogOptions{Timestamps: true}); strings.Count(got, "Z ") != 3 {
		t.Errorf("%d timestamps, want one a line", strings.Count(got, "Z "))
	}
}

// TestBound writes much: the last of it is kept.
func TestBound(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, dir)
	s := w.Stream("stdout")
	const lines = 60_000
	for i := range lines {
		fmt.Fprintf(s, "line %d %s\n", i, strings.Repeat("x", 100))
	}
	var total int64
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	got := strings.Split(strings.TrimSuffix(read(t, dir, corev1.PodLogOptions{}), "\n"), "\n")
	var first int
	fmt.Sscanf(got[0], "line %d", &first)
	if total > 2*maxFile || total < maxFile || first+len(got) != lines || first == 0 {
		t.Errorf("%d bytes, %d lines from %d on", total, len(got), first)
	}
}

// TestFollow goes on while the log is written, through a file that is full, to
// the end of the Pod.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w, err := Create(dir, pod)
		if err != nil {
			t.Fatal(err)
		}
		s := w.Stream("stdout")
		fmt.Fprint(s, "before\nlast\n")
		var out bytes.Buffer
		done := make(chan error)
		go func() {
			done <- Copy(t.Context(), &out, dir, pod, corev1.PodLogOptions{Follow: true, TailLines: new(int64(1))}, stays)
		}()
		synctest.Wait() // until it follows
		var want strings.Builder
		want.WriteString("last\n")
		for i := range 3 * maxFile / (maxLine / 2) {
			line := fmt.Sprint(i, strings.Repeat("x", maxLine/2), "\n")
			want.WriteString(line)
			fmt.Fprint(s, line)
			if i%100 == 0 {
				time.Sleep(2 * pollEvery)
			}
		}
		fmt.Fprint(s, "the end")
		s.Flush()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil || out.String() != want.String()+"the end\n" {
			t.Errorf("%v: %d bytes, want %d", err, out.Len(), len(want.String())+8)
		}
	})
}

// TestCopyRotated reads a log again and again while its files take the places of
// each other: nothing in the middle may be missing.
func TestCopyRotated(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, dir)
	s := w.Stream("stdout")
	fmt.Fprintln(s, 0)
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := 1; ctx.Err() == nil; i++ {
			w.mu.Lock()
			w.rotate()
			w.mu.Unlock()
			fmt.Fprintln(s, i)
		}
	})
	defer writing.Wait()
	defer stop()
	read := 0
	for range 5000 {
		var out bytes.Buffer
		err := Copy(ctx, &out, dir, pod, corev1.PodLogOptions{}, stays)
		if err != nil && !errors.Is(err, ErrNotKept) {
			t.Fatal(err)
		}
		numbers := strings.Fields(out.String())
		read += len(numbers)
		for i := 1; i < len(numbers); i++ {
			before, _ := strconv.Atoi(numbers[i-1])
			if n, _ := strconv.Atoi(numbers[i]); n != before+1 {
				t.Fatalf("%d comes after %d", n, before)
			}
		}
	}
	if read == 0 {
		t.Error("nothing was read")
	}
}

// TestFollowReplaced checks that a log goes on whose file is not there for a
// moment, between that which is full and the next, and ends once it is removed.
func TestFollowReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := newWriter(t, dir)
		s := w.Stream("stdout")
		var out bytes.Buffer
		done := make(chan error)
		go func() { done <- Copy(t.Context(), &out, dir, pod, corev1.PodLogOptions{Follow: true}, stays) }()
		synctest.Wait()
		fmt.Fprintln(s, "before")
		if err := os.Rename(w.now, w.full); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pollEvery * 3 / 2) // one look
		if err := os.Rename(w.full, w.now); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pollEvery)
		fmt.Fprintln(s, "after")
		time.Sleep(2 * pollEvery)
		if err := os.Remove(w.now); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil || out.String() != "before\nafter\n" {
			t.Errorf("%v: %q", err, out.String())
		}
	})
}

// TestFollowKilled checks that a log ends whose writer was killed: a little
// after its Pod.
func TestFollowKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := newWriter(t, dir).Stream("stdout")
		gone := time.Now().Add(time.Minute)
		go func() {
			time.Sleep(time.Minute + time.Second)
			fmt.Fprintln(s, "late")
		}()
		var out bytes.Buffer
		err := Copy(t.Context(), &out, dir, pod, corev1.PodLogOptions{Follow: true}, func() bool { return time.Now().After(gone) })
		if took := time.Since(gone); err != nil || out.String() != "late\n" || took > 4*time.Second {
			t.Errorf("%v: %q, %v after the Pod", err, out.String(), took)
		}
	})
}

func TestFollowEndsWithClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		newWriter(t, dir)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := Copy(ctx, new(bytes.Buffer), dir, pod, corev1.PodLogOptions{Follow: true}, stays); err != nil {
			t.Error(err)
		}
	})
}

// TestForeignFiles checks that nothing else is read or overwritten than files
// of Pods.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("2026-01-01T00:00:00Z stdout F secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Copy(t.Context(), new(bytes.Buffer), dir, pod, corev1.PodLogOptions{}, stays); !errors.Is(err, ErrNotKept) {
		t.Errorf("no file: %v", err)
	}
	if err := os.Symlink(secret, filepath.Join(dir, "finance_pay-0.log")); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Copy(t.Context(), &out, dir, pod, corev1.PodLogOptions{}, stays); err == nil || out.Len() > 0 {
		t.Errorf("through a link: %v, %q", err, out.String())
	}
	newWriter(t, dir).Stream("stdout").Write([]byte("x\n"))
	if data, err := os.ReadFile(secret); err != nil || !strings.Contains(string(data), "secret") {
		t.Errorf("written through a link: %q, %v", data, err)
	}
	for _, name := range []types.NamespacedName{{Namespace: "..", Name: "../x"}, {Namespace: "a"}, {Namespace: "a", Name: "b_c"}} {
		if _, err := Create(dir, name); err == nil {
			t.Errorf("%q was made", name)
		}
		if err := Copy(t.Context(), &out, dir, name, corev1.PodLogOptions{}, stays); err == nil {
			t.Errorf("%q was read", name)
		}
	}
}

// TestSweep removes what is old and nobody's.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-2 * time.Hour)
	for name, at := range map[string]time.Time{
		"a_gone.log": old, "a_gone.log.1": old, "a_there.log": old, "a_new.log": time.Now(), "other": old,
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := Sweep(dir, func(p types.NamespacedName) bool { return p.Name == "there" }); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 3 {
		t.Errorf("left: %q, %v", left, err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte("2026-01-02T15:04:05Z stdout F text\n"), true)
	f.Add([]byte("2026-01-02T15:04:05Z stdout P te"), false)
	f.Fuzz(func(t *testing.T, record []byte, timestamps bool) {
		var out bytes.Buffer
		c := newCopier(&out, corev1.PodLogOptions{Timestamps: timestamps, TailLines: new(int64(3))})
		for range 5 {
			c.record(record)
		}
		if err := c.tailed(); err != nil || out.Len() > 6*len(record)+5*64 {
			t.Errorf("%v: %d bytes of %d", err, out.Len(), len(record))
		}
	})
}
