package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"usher/registry"
)

// A Stream has the events of one watch. Only one goroutine may read it.
type Stream struct {
	ctx    context.Context
	cancel context.CancelFunc
	body   io.Closer
	json   *json.Decoder
	decode func([]byte) (runtime.Object, error)
}

// WatchObjects follows those objects of a collection that are selected. It has
// begun when WatchObjects returns: whatever is changed after that is in it.
// The caller must Close the Stream.
func (c *Client) WatchObjects(ctx context.Context, key registry.Key, o ListOptions) (*Stream, error) {
	return c.watch(ctx, key, o, "", func(raw []byte) (runtime.Object, error) {
		obj := key.Kind.New()
		return obj, json.Unmarshal(raw, obj)
	})
}

// WatchTable is WatchObjects with a *metav1.Table of one row in the place of
// each object. Only the first one has its columns defined.
func (c *Client) WatchTable(ctx context.Context, key registry.Key, o ListOptions) (*Stream, error) {
	return c.watch(ctx, key, o, acceptTable, func(raw []byte) (runtime.Object, error) {
		table := new(metav1.Table)
		return table, json.Unmarshal(raw, table)
	})
}

// Watch is WatchObjects for a Kind in a namespace, or in all when it is "",
// with a channel. That is closed when the watch ends. The caller must Stop it.
func (c *Client) Watch(ctx context.Context, kind *registry.Kind, namespace string) (watch.Interface, error) {
	s, err := c.WatchObjects(ctx, registry.Key{Kind: kind, Namespace: namespace}, ListOptions{})
	if err != nil {
		return nil, err
	}
	return watch.NewStreamWatcher(decoder{s}, reporter{}), nil
}

func (c *Client) watch(ctx context.Context, key registry.Key, o ListOptions, accept string, decode func([]byte) (runtime.Object, error)) (*Stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	o.Limit = 0 // which is of lists
	query := o.query()
	query.Set("watch", "true")
	resp, err := c.Do(ctx, http.MethodGet, Path(key), query, accept, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	return &Stream{ctx, cancel, resp.Body, json.NewDecoder(resp.Body), decode}, nil
}

// Next waits for the next event. Of bookmarks it returns none but that of
// ListOptions.InitialEvents. The error is io.EOF when the server has ended the
// watch, that of the context when it is done, and a *apierrors.StatusError when
// the server says why it cannot go on.
func (s *Stream) Next() (watch.Event, error) {
	for {
		var ev struct {
			Type   watch.EventType `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := s.json.Decode(&ev); err != nil {
			return watch.Event{}, s.broken(err)
		}
		switch ev.Type {
		case watch.Bookmark:
			var mark metav1.PartialObjectMetadata
			if err := json.Unmarshal(ev.Object, &mark); err != nil {
				return watch.Event{}, fmt.Errorf("read a bookmark of a watch: %w", err)
			}
			if mark.Annotations[metav1.InitialEventsAnnotationKey] != "true" {
				continue
			}
			return watch.Event{Type: watch.Bookmark, Object: &mark}, nil
		case watch.Error:
			status := new(metav1.Status)
			if err := json.Unmarshal(ev.Object, status); err != nil {
				return watch.Event{}, fmt.Errorf("read the error of a watch: %w", err)
			}
			return watch.Event{}, apierrors.FromObject(status)
		}
		obj, err := s.decode(ev.Object)
		if err != nil {
			return watch.Event{}, fmt.Errorf("read an event of a watch: %w", err)
		}
		return watch.Event{Type: ev.Type, Object: obj}, nil
	}
}

// broken returns what err of the connection means.
func (s *Stream) broken(err error) error {
	switch {
	case s.ctx.Err() != nil:
		return s.ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return io.EOF
	}
	return fmt.Errorf("read a watch: %w", err)
}

// Close ends the watch.
func (s *Stream) Close() {
	s.cancel()
	s.body.Close()
}

// A decoder is a Stream as a watch.StreamWatcher wants it.
type decoder struct{ *Stream }

// Decode implements watch.Decoder.
func (d decoder) Decode() (watch.EventType, runtime.Object, error) {
	ev, err := d.Next()
	var status *apierrors.StatusError
	switch {
	case errors.As(err, &status):
		return watch.Error, &status.ErrStatus, nil
	case errors.Is(err, context.Canceled):
		err = io.EOF
	}
	return ev.Type, ev.Object, err
}

// A reporter turns a broken stream into an event.
type reporter struct{}

// AsObject implements watch.Reporter.
func (reporter) AsObject(err error) runtime.Object {
	status := apierrors.NewInternalError(err).Status()
	return &status
}
