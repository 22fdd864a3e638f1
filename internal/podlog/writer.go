package podlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const (
	// maxFile bounds a file, in bytes. A Pod has two: that which is full, and
	// that which is written.
	maxFile = 2 << 20

	// maxLine bounds what is kept of a line whose end has not come yet, in
	// bytes. A longer one is written in pieces, which are read as one.
	maxLine = 16 << 10

	timeFormat = time.RFC3339Nano

	// keptFor is for how long the log of a Pod that is gone stays.
	keptFor = 10 * time.Minute
)

// The tags of records.
const (
	tagFull = "F" // a line, or its last piece
	tagPart = "P" // a piece of a line
	tagEnd  = "E" // the end of the log
)

// Dir returns the directory of logs of a daemon, whose state is in dataDir.
func Dir(dataDir string) string { return filepath.Join(dataDir, "logs") }

// The names of files: <namespace>_<name>.log, and .log.1 for that which is
// full. Neither part has an underscore.
const (
	suffix     = ".log"
	fullSuffix = ".1"
)

// path returns the file of a Pod in dir, and the file that it is when it is
// full. A name that could leave the directory has none.
func path(dir string, pod types.NamespacedName) (now, full string, err error) {
	for _, part := range []string{pod.Namespace, pod.Name} {
		if part == "" || strings.ContainsAny(part, "/_\x00") {
			return "", "", fmt.Errorf("%q is not the name of a Pod", pod)
		}
	}
	now = filepath.Join(dir, pod.Namespace+"_"+pod.Name+suffix)
	return now, now + fullSuffix, nil
}

// PodOf returns whose log a file has, and false for a file that is none.
func PodOf(file string) (types.NamespacedName, bool) {
	namespace, name, ok := strings.Cut(strings.TrimSuffix(strings.TrimSuffix(file, fullSuffix), suffix), "_")
	return types.NamespacedName{Namespace: namespace, Name: name}, ok
}

// A Writer keeps what the process of one Pod writes. Its errors are kept to
// itself: no process is to fail since its log cannot be kept.
type Writer struct {
	now, full string

	mu   sync.Mutex // guards the following
	file *os.File   // nil once it cannot be written
	size int64
}

// Create makes the file of a Pod, in the place of what another one of its name
// has left. The caller must Close the Writer.
func Create(dir string, pod types.NamespacedName) (*Writer, error) {
	now, full, err := path(dir, pod)
	if err != nil {
		return nil, err
	}
	for _, left := range []string{now, full} {
		if err := os.Remove(left); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	w := &Writer{now: now, full: full}
	if w.file, err = create(now); err != nil {
		return nil, err
	}
	return w, nil
}

// create makes a file that its user alone can read.
func create(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
}

// Stream returns where one of the process's streams goes: "stdout" or
// "stderr". It has one writer, and Flush ends its last line.
func (w *Writer) Stream(name string) *Stream { return &Stream{of: w, name: name} }

// Close ends the log. The files stay for those who follow them, until Sweep.
func (w *Writer) Close() error {
	w.record("stdout", tagEnd, nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}

// Sweep removes the files of Pods that are gone for a while. keep reports which
// are there.
func Sweep(dir string, keep func(pod types.NamespacedName) bool) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range files {
		pod, ok := PodOf(f.Name())
		if !ok || keep(pod) {
			continue
		}
		if info, err := f.Info(); err == nil && time.Since(info.ModTime()) > keptFor {
			errs = append(errs, os.Remove(filepath.Join(dir, f.Name())))
		}
	}
	return errors.Join(errs...)
}

// record writes a record: a line, or the beginning of one.
func (w *Writer) record(stream, tag string, text []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return
	}
	record := fmt.Appendf(nil, "%s %s %s %s\n", time.Now().UTC().Format(timeFormat), stream, tag, text)
	if w.size+int64(len(record)) > maxFile && w.size > 0 {
		w.rotate()
	}
	n, err := w.file.Write(record)
	w.size += int64(n)
	if err != nil {
		w.file.Close()
		w.file = nil
	}
}

// rotate begins a new file, and forgets the one before the last.
func (w *Writer) rotate() {
	if os.Rename(w.now, w.full) != nil {
		return
	}
	next, err := create(w.now)
	if err != nil {
		return // the old one is longer than it should be, then
	}
	w.file.Close()
	w.file, w.size = next, 0
}

// A Stream cuts what is written to it into lines.
type Stream struct {
	of   *Writer
	name string
	rest []byte // of a line whose end has not come
}

var _ io.Writer = (*Stream)(nil)

// Write implements io.Writer. It does not fail.
func (s *Stream) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		piece, after, ended := bytes.Cut(p, []byte("\n"))
		if room := maxLine - len(s.rest); len(piece) > room {
			s.of.record(s.name, tagPart, append(s.rest, piece[:room]...))
			s.rest, p = s.rest[:0], p[room:]
			continue
		}
		s.rest = append(s.rest, piece...)
		if !ended {
			break
		}
		s.of.record(s.name, tagFull, s.rest)
		s.rest, p = s.rest[:0], after
	}
	return n, nil
}

// Flush writes the line that has begun, if one has.
func (s *Stream) Flush() {
	if len(s.rest) > 0 {
		s.of.record(s.name, tagFull, s.rest)
		s.rest = s.rest[:0]
	}
}
