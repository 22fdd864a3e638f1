package podlog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// pollEvery is how often a file that is followed is looked at.
	pollEvery = 100 * time.Millisecond

	// goneAfter is how often it must have been found as it was after its Pod has
	// gone: the last of the output may come after that.
	goneAfter = 20
)

// ErrNotKept says that nothing was kept of what a Pod wrote.
var ErrNotKept = errors.New("its log is not kept")

// Copy writes the log of a Pod to w as the options want it, whose Container,
// Previous and Stream it does not heed. With Follow it goes on until the log
// has ended, ctx is done, or w fails; where gone says that the Pod is not there
// any more, and nothing else comes, its writer was killed.
func Copy(ctx context.Context, w io.Writer, dir string, pod types.NamespacedName, o corev1.PodLogOptions, gone func() bool) error {
	now, full, err := path(dir, pod)
	if err != nil {
		return err
	}
	c := newCopier(w, o)
	file, old, err := openBoth(now, full)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotKept
	}
	if err != nil {
		return err
	}
	r := &reader{now, file}
	defer r.close()
	if old != nil {
		err := c.lines(old)
		old.Close()
		if err != nil {
			return c.end(err)
		}
	}
	if err := c.lines(r.file); err != nil {
		return c.end(err)
	}
	if err := c.tailed(); err != nil || !o.Follow {
		return c.end(err)
	}
	return c.end(r.follow(ctx, c, gone))
}

// A reader reads a file, and that which takes its place.
type reader struct {
	name string
	file *os.File
}

func (r *reader) close() { r.file.Close() }

// openBoth opens the file that is written now and, if there is one, that before
// it. It looks again when another one has taken the place of the former meanwhile,
// or is about to.
func openBoth(now, full string) (file, old *os.File, err error) {
	for range 100 {
		if file, err = open(now); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if old, err = open(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
			file.Close()
			return nil, nil, err
		}
		if gone, err := replaced(file, now); err == nil && !gone {
			return file, old, nil
		}
		file.Close()
		old.Close()
		err = fs.ErrNotExist
	}
	return nil, nil, err
}

// open opens a file of this user's. It goes through no link.
func open(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// follow copies what is written from now on.
func (r *reader) follow(ctx context.Context, c *copier, gone func() bool) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	missing := false // there was no file the last time
	for silent := 0; !c.ended && silent < goneAfter; {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		// Looked at first: what is written until a file is full is read below.
		replaced, err := replaced(r.file, r.name)
		before := c.records
		if err := c.lines(r.file); err != nil {
			return err
		}
		if silent++; c.records > before || !gone() {
			silent = 0
		}
		switch {
		case errors.Is(err, fs.ErrNotExist): // for a moment while another one takes its place
			if missing {
				return nil
			}
		case err != nil:
			return err
		case replaced:
			if next, err := open(r.name); err == nil {
				r.file.Close()
				r.file = next
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		missing = err != nil
	}
	return nil
}

// replaced reports whether another file has taken the place of the one read.
func replaced(f *os.File, name string) (bool, error) {
	there, err := os.Lstat(name)
	if err != nil {
		return false, err
	}
	have, err := f.Stat()
	return err == nil && !os.SameFile(there, have), err
}

// errEnough says that the client has all that it asked for.
var errEnough = errors.New("enough")

// A copier writes records as the options want them.
type copier struct {
	w       io.Writer
	options corev1.PodLogOptions
	since   time.Time
	left    int64    // bytes that may be written; -1: any number
	tail    [][]byte // the last records, until all that there is has been read; nil when each is written at once
	last    int      // how many of them are wanted
	half    []byte   // a record whose end has not been read
	records int      // that have been read
	ended   bool     // the last one has been read
	joined  bool     // the line before has not ended
}

func newCopier(w io.Writer, o corev1.PodLogOptions) *copier {
	c := &copier{w: w, options: o, left: -1}
	switch {
	case o.SinceTime != nil:
		c.since = o.SinceTime.Time
	case o.SinceSeconds != nil:
		c.since = time.Now().Add(-time.Duration(*o.SinceSeconds) * time.Second)
	}
	if o.LimitBytes != nil {
		c.left = *o.LimitBytes
	}
	if o.TailLines != nil {
		c.tail, c.last = [][]byte{}, int(min(*o.TailLines, maxFile)) // there are no more lines than bytes
	}
	return c
}

// end returns the error that Copy is to return.
func (c *copier) end(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// lines copies the records of a file up to its present end.
func (c *copier) lines(f *os.File) error {
	r := bufio.NewReaderSize(f, 64<<10)
	for {
		piece, err := r.ReadSlice('\n')
		switch {
		case err == nil && len(c.half) == 0:
			err = c.record(piece)
		case err == nil:
			record := append(c.half, piece...)
			c.half = nil
			err = c.record(record)
		case errors.Is(err, io.EOF), errors.Is(err, bufio.ErrBufferFull):
			c.half = append(c.half, piece...)
			if len(c.half) > 2*maxLine {
				c.half = nil // of no file of ours
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			err = nil
		}
		if err != nil {
			return err
		}
	}
}

// record takes one record, which is not its own.
func (c *copier) record(record []byte) error {
	c.records++
	line, whole, ok := c.format(record)
	if !ok {
		return nil
	}
	if c.tail == nil {
		return c.write(line)
	}
	if c.joined && len(c.tail) > 0 {
		c.tail[len(c.tail)-1] = append(c.tail[len(c.tail)-1], line...)
	} else if c.last > 0 {
		if len(c.tail) == c.last {
			c.tail = c.tail[1:]
		}
		c.tail = append(c.tail, bytes.Clone(line))
	}
	c.joined = !whole
	return nil
}

// format returns a record as the client wants it, with the end of its line if
// it has it. It reports false for one that the client does not want, or that
// is none.
func (c *copier) format(record []byte) (line []byte, whole, ok bool) {
	when, rest, ok1 := bytes.Cut(record, []byte(" "))
	_, rest, ok2 := bytes.Cut(rest, []byte(" ")) // the stream
	tag, text, ok3 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 || !ok3 {
		return nil, false, false
	}
	if string(tag) == tagEnd {
		c.ended = true
		return nil, false, false
	}
	at, err := time.Parse(timeFormat, string(when))
	if err != nil || at.Before(c.since) {
		return nil, false, false
	}
	if whole = string(tag) == tagFull; !whole {
		text = bytes.TrimSuffix(text, []byte("\n"))
	}
	if c.options.Timestamps && !c.joined {
		text = append(append(bytes.Clone(when), ' '), text...)
	}
	if c.tail == nil {
		c.joined = !whole
	}
	return text, whole, true
}

// tailed writes the last records, now that all have been read.
func (c *copier) tailed() error {
	lines := c.tail
	c.tail = nil
	for _, line := range lines {
		if err := c.write(line); err != nil {
			return err
		}
	}
	return nil
}

// write writes as much of a line as may be written.
func (c *copier) write(line []byte) error {
	if c.left >= 0 && int64(len(line)) > c.left {
		line = line[:c.left]
	}
	_, err := c.w.Write(line)
	if c.left >= 0 {
		c.left -= int64(len(line))
	}
	if err == nil && c.left == 0 {
		err = errEnough
	}
	return err
}
