package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"usher/registry"
)

// watch answers with a stream of events, from opts.ResourceVersion on or, if
// that is 0, from everything there is now, until the client goes, its time is
// over, or the server shuts down.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, sel selection, opts metav1.ListOptions, enc encoding) error {
	if enc.yaml {
		return notAcceptable(mediaJSON)
	}
	ctx, cancel := s.watchContext(r.Context(), opts.TimeoutSeconds)
	defer cancel()
	feed, err := s.newFeed(ctx, sel, opts)
	if err != nil {
		return err
	}
	p, err := s.printing(r)
	if err != nil {
		return err
	}
	out := newEventStream(w, s.limits.stall)
	if enc.table {
		out.printing = &p
	}
	s.metrics.watches.Inc()
	defer s.metrics.watches.Dec()
	feed.run(ctx, out, s.limits.bookmark)
	return nil
}

// watchContext returns the context of a watch: it ends with the request, after
// seconds if given, and when the server shuts down.
func (s *Server) watchContext(ctx context.Context, seconds *int64) (context.Context, context.CancelFunc) {
	timeout := time.Duration(1<<63 - 1)
	if seconds != nil && *seconds > 0 && *seconds < int64(timeout/time.Second) {
		timeout = time.Duration(*seconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	stop := context.AfterFunc(s.stopping, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// A feed turns the Commits of the Store into the events of one watch.
type feed struct {
	sel       selection
	watch     *registry.Watch
	initial   *registry.Snapshot // to be sent first; nil: nothing
	endMark   bool               // mark the end of initial by a bookmark
	bookmarks bool
	revision  int64 // how far the feed has come
	store     *registry.Store
}

// newFeed finds the beginning of a watch. It answers 410 for one that the
// Store does not remember, and waits a little for one that another node has
// seen before this one. A watch of what may never come, after etcd was begun
// anew, would only be silent.
func (s *Server) newFeed(ctx context.Context, sel selection, opts metav1.ListOptions) (*feed, error) {
	revision, err := parseRevision(opts.ResourceVersion)
	if err != nil {
		return nil, err
	}
	sendInitial := revision == 0
	if opts.SendInitialEvents != nil {
		sendInitial = *opts.SendInitialEvents
	}
	snapshot, err := s.snapshot(ctx, revision)
	if err != nil {
		return nil, err
	}
	f := &feed{sel: sel, bookmarks: opts.AllowWatchBookmarks, revision: revision, store: s.opts.Store}
	if sendInitial {
		f.initial = snapshot
		f.endMark = opts.SendInitialEvents != nil && opts.AllowWatchBookmarks
	}
	if sendInitial || revision == 0 {
		f.revision, f.watch = snapshot.Revision(), f.store.WatchFrom(snapshot)
	} else if f.watch, err = f.store.Watch(revision); err != nil {
		return nil, tooOld(revision, f.store.Snapshot().Revision())
	}
	return f, nil
}

// run writes events until ctx is done or the client is gone.
func (f *feed) run(ctx context.Context, out *eventStream, bookmarkInterval time.Duration) {
	if f.initial != nil {
		for _, obj := range f.sel.objects(f.initial) {
			out.send(watch.Added, obj)
		}
		if f.endMark {
			out.send(watch.Bookmark, f.bookmark(map[string]string{metav1.InitialEventsAnnotationKey: "true"}))
		}
		f.initial = nil // a watch is long, and a Snapshot holds what has been replaced since
	}
	bookmarkAt := time.Now().Add(bookmarkInterval)
	for out.flush() == nil {
		commits, err := f.next(ctx, bookmarkAt)
		switch {
		case err == nil:
			f.send(commits, out)
		case errors.Is(err, registry.ErrExpired):
			out.sendError(tooOld(f.revision, f.store.Snapshot().Revision()))
			out.flush()
			return
		case ctx.Err() != nil:
			return
		}
		if time.Now().Before(bookmarkAt) {
			continue
		}
		bookmarkAt = time.Now().Add(bookmarkInterval)
		if f.bookmarks {
			out.send(watch.Bookmark, f.bookmark(nil))
		}
	}
}

// next waits for Commits until a bookmark is due.
func (f *feed) next(ctx context.Context, bookmarkAt time.Time) ([]registry.Commit, error) {
	ctx, cancel := context.WithDeadline(ctx, bookmarkAt)
	defer cancel()
	return f.watch.Next(ctx)
}

// send writes the events of commits.
func (f *feed) send(commits []registry.Commit, out *eventStream) {
	for _, c := range commits {
		f.revision = c.Revision
		for _, change := range c.Objects {
			if typ, obj := f.sel.event(change, c.Revision); obj != nil {
				out.send(typ, obj)
			}
		}
	}
}

// event returns what a change means to a watch of the selection, or nil. An
// object that enters the selection is added to it, and one that leaves it is
// deleted from it, whatever happened to the object itself.
func (s selection) event(c registry.Change, revision int64) (watch.EventType, registry.Object) {
	if c.Kind != s.kind {
		return "", nil
	}
	was := c.Old != nil && s.matches(c.Old)
	is := c.New != nil && s.matches(c.New)
	switch {
	case is && was:
		return watch.Modified, c.New
	case is:
		return watch.Added, c.New
	case was:
		// As Kubernetes does: the last state that the client may have seen, at
		// the revision where it ended.
		gone := c.Old.DeepCopyObject().(registry.Object)
		gone.SetResourceVersion(strconv.FormatInt(revision, 10))
		return watch.Deleted, gone
	}
	return "", nil
}

// bookmark returns an object that has the revision of the feed and no other
// content.
func (f *feed) bookmark(annotations map[string]string) registry.Object {
	obj := f.sel.kind.New()
	obj.SetResourceVersion(strconv.FormatInt(f.revision, 10))
	obj.SetAnnotations(annotations)
	return obj
}
