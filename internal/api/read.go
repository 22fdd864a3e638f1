package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
)

// snapshot returns the present state, at revision or later.
func (s *Server) snapshot(ctx context.Context, revision int64) (*registry.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.fresh)
	defer cancel()
	select {
	case <-s.opts.Store.Synced():
	case <-ctx.Done():
		return nil, errUnread()
	}
	if err := s.opts.Store.WaitRevision(ctx, revision); err != nil {
		now := s.opts.Store.Snapshot().Revision()
		err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", revision, now), 1)
		err.ErrStatus.Details.Causes = []metav1.StatusCause{
			{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"},
		}
		return nil, err
	}
	return s.opts.Store.Snapshot(), nil
}

// errUnread is the answer before the first sync.
func errUnread() error {
	err := apierrors.NewServiceUnavailable("the registry has not been read yet")
	err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
	return err
}

// parseRevision reads a resourceVersion. None, and "0", mean any.
func parseRevision(resourceVersion string) (int64, error) {
	if resourceVersion == "" {
		return 0, nil
	}
	revision, err := strconv.ParseInt(resourceVersion, 10, 64)
	if err == nil && revision < 0 {
		err = errors.New("must not be negative")
	}
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version %q: %v", resourceVersion, err))
	}
	return revision, nil
}

// get answers with one object.
func (s *Server) get(w http.ResponseWriter, r *http.Request, t target, enc encoding) error {
	revision, err := parseRevision(r.URL.Query().Get("resourceVersion"))
	if err != nil {
		return err
	}
	snapshot, err := s.snapshot(r.Context(), revision)
	if err != nil {
		return err
	}
	obj := snapshot.Get(t.key())
	if obj == nil {
		return apierrors.NewNotFound(t.kind.GroupResource(), t.name)
	}
	return s.answerObject(w, r, enc, http.StatusOK, obj)
}

// answerObject writes one object, as a Table if that was asked for.
func (s *Server) answerObject(w http.ResponseWriter, r *http.Request, enc encoding, code int, obj registry.Object) error {
	noted(w).object = obj.GetName()
	if !enc.table {
		return answer(w, enc, code, obj)
	}
	p, err := s.printing(r)
	if err != nil {
		return err
	}
	table := p.table(registry.KindOf(obj), obj)
	table.ResourceVersion = obj.GetResourceVersion()
	return answer(w, enc, code, table)
}

// list answers with the objects of a selection, or with a page of them.
func (s *Server) list(w http.ResponseWriter, r *http.Request, sel selection, opts metav1.ListOptions, enc encoding) error {
	part, err := s.page(r.Context(), sel, opts)
	if err != nil {
		return err
	}
	if !enc.table {
		return answer(w, enc, http.StatusOK, newList(sel.kind, part.ListMeta, part.objects))
	}
	p, err := s.printing(r)
	if err != nil {
		return err
	}
	p.snapshot = part.snapshot // the columns that other objects fill are of the same moment
	table := p.table(sel.kind, part.objects...)
	table.ListMeta = part.ListMeta
	return answer(w, enc, http.StatusOK, table)
}

// page returns the page that opts ask for. All pages of a list are of the same
// state of the registry.
func (s *Server) page(ctx context.Context, sel selection, opts metav1.ListOptions) (page, error) {
	revision, err := parseRevision(opts.ResourceVersion)
	if err != nil {
		return page{}, err
	}
	var from cursor
	exact := opts.ResourceVersionMatch == metav1.ResourceVersionMatchExact
	if opts.Continue != "" {
		if revision != 0 {
			return page{}, apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
		}
		if from, err = parseCursor(opts.Continue); err != nil {
			return page{}, err
		}
		revision, exact = from.Revision, from.Revision != 0
	}
	snapshot, err := s.snapshot(ctx, revision)
	if err != nil {
		return page{}, err
	}
	now := time.Now()
	if exact && revision != snapshot.Revision() {
		was := s.kept.at(revision, now)
		switch {
		case was != nil:
			snapshot = was
		case opts.Continue != "":
			return page{}, errPageGone(from)
		default:
			return page{}, tooOld(revision, snapshot.Revision())
		}
	}
	part := sel.cut(snapshot, from.After, opts.Limit)
	if part.Continue != "" {
		s.kept.put(snapshot, now)
	}
	return part, nil
}

// tooOld is the answer to a revision that the Store does not remember: 410,
// after which clients list anew.
func tooOld(revision, now int64) error {
	return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", revision, now))
}
