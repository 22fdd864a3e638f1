package up

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long files have to be left alone until they are read. Editors
// write more than once, and some put another file in the place of the old one.
const settle = 200 * time.Millisecond

// A Watcher tells when files of a project may have changed. It watches their
// directories, since a file that is replaced is another file.
type Watcher struct {
	// Changes has an element when something has changed since the last one was
	// taken.
	Changes chan struct{}

	files *fsnotify.Watcher
	mu    sync.Mutex
	of    *Project // guarded by mu
}

// NewWatcher returns a Watcher, which watches in Run.
func NewWatcher() (*Watcher, error) {
	files, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	return &Watcher{Changes: make(chan struct{}, 1), files: files}, nil
}

// Follow watches the files of p, and those of the project before it no more. A
// directory that cannot be watched is left out.
func (w *Watcher) Follow(p *Project) {
	w.mu.Lock()
	defer w.mu.Unlock()
	dirs := p.Dirs()
	for _, dir := range w.files.WatchList() {
		if !slices.Contains(dirs, dir) {
			_ = w.files.Remove(dir)
		}
	}
	for _, dir := range dirs {
		_ = w.files.Add(dir)
	}
	w.of = p
}

// Run watches until ctx is done.
func (w *Watcher) Run(ctx context.Context) {
	defer w.files.Close()
	settled := time.NewTimer(time.Hour)
	settled.Stop()
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case ev := <-w.files.Events:
			if w.matters(ev) {
				settled.Reset(settle)
			}
		case <-w.files.Errors: // too many at once: anything may have changed
			settled.Reset(settle)
		case <-settled.C:
			select {
			case w.Changes <- struct{}{}:
			default:
			}
		}
	}
}

// matters reports whether an event is about the project: what programs write
// beside its files is not.
func (w *Watcher) matters(ev fsnotify.Event) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of == nil || ev.Op == fsnotify.Chmod {
		return false
	}
	if slices.Contains(w.of.Files, ev.Name) {
		return true
	}
	return slices.ContainsFunc(w.of.Manifests, func(pattern string) bool {
		file, _ := filepath.Match(pattern, ev.Name)
		dir, _ := filepath.Match(filepath.Dir(pattern), ev.Name)
		return file || dir
	})
}
