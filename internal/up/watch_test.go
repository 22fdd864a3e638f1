package up

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Every way in which files change is seen, also those of editors that put
// another file in the place of the old one, and of directories that come late.
func TestWatcher(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"usher.yaml": "", "manifests/a.yaml": ""})
	p, err := Load(filepath.Join(dir, "usher.yaml"), "", "default", false)
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { w.Run(ctx) })
	w.Follow(p)
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	changes := []struct {
		name string
		do   func()
	}{
		{"written", func() { write(t, dir, map[string]string{"usher.yaml": "{}"}) }},
		{"replaced", func() {
			write(t, dir, map[string]string{".usher.yaml.swp": "{}"})
			must(os.Rename(at(".usher.yaml.swp"), at("usher.yaml")))
		}},
		{"replaced again", func() {
			write(t, dir, map[string]string{"4913": "{}"})
			must(os.Rename(at("4913"), at("usher.yaml")))
		}},
		{"a Procfile beside it", func() { write(t, dir, map[string]string{"Procfile": "a: b"}) }},
		{"a manifest", func() { write(t, dir, map[string]string{"manifests/b.yaml": "{}"}) }},
		{"no manifest", func() { must(os.Remove(at("manifests/b.yaml"))) }},
		{"no directory", func() { must(os.RemoveAll(at("manifests"))) }},
		{"a directory", func() { must(os.Mkdir(at("manifests"), 0o700)) }},
		{"a manifest in it", func() { write(t, dir, map[string]string{"manifests/b.yaml": "{}"}) }},
	}
	for _, c := range changes {
		c.do()
		select {
		case <-w.Changes:
		case <-time.After(40 * time.Second):
			t.Fatalf("%s: not seen", c.name)
		}
		w.Follow(p)
	}
}

// What programs write beside the files of the project is nobody's business.
func TestWatcherMatters(t *testing.T) {
	w := &Watcher{of: &Project{Files: []string{"/p/usher.yaml", "/p/Procfile"}, Manifests: []string{"/p/manifests/*.yaml"}}}
	for name, want := range map[string]bool{
		"/p/usher.yaml": true, "/p/Procfile": true, "/p/manifests": true, "/p/manifests/a.yaml": true,
		"/p/web.log": false, "/p/other.yaml": false, "/p/manifests/a.txt": false,
	} {
		if got := w.matters(fsnotify.Event{Name: name, Op: fsnotify.Write}); got != want {
			t.Errorf("%s: %t, want %t", name, got, want)
		}
	}
}
