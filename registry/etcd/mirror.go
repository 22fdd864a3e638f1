package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"usher/registry"
)

const (
	// listPage bounds how many objects one request lists.
	listPage = 1000

	// resyncInterval is between two full lists. A watch has lost events before
	// (etcd #18089, #19179): what a list finds different is put right.
	resyncInterval = 5 * time.Minute

	// checkInterval is between two looks at etcd's revision.
	checkInterval = 10 * time.Second

	minRetry = 50 * time.Millisecond
	maxRetry = 2 * time.Second
)

// A Mirror keeps a Store equal to the registry in etcd. While etcd is away the
// Store keeps its last state.
type Mirror struct {
	Client *Client
	Store  *registry.Store

	// Report is told of a value that is no valid object, once for each write of
	// it. The last good state of the object stays in force. Report must not
	// wait for the Store: the Mirror waits for Report.
	Report func(key string, err error)

	Log *slog.Logger

	resync, check time.Duration // resyncInterval and checkInterval; others in tests

	again chan struct{} // has an element when a list is due at once

	pool *registry.Pool
	bad  map[string]int64 // revisions of the unreadable values, all of them reported
	lost bool             // etcd does not answer, and the log says so
}

// Run lists the registry and watches it, again and again, until ctx is done.
// That is not an error.
func (m *Mirror) Run(ctx context.Context) error {
	m.pool, m.bad = registry.NewPool(), make(map[string]int64)
	m.resync, m.check = cmp.Or(m.resync, resyncInterval), cmp.Or(m.check, checkInterval)
	m.again = make(chan struct{}, 1)
	m.Client.mirror.Store(m)
	defer m.Client.mirror.CompareAndSwap(m, nil)
	wait := minRetry
	for {
		err := m.follow(ctx, func() { wait = minRetry })
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			continue // time for a full list
		}
		m.seen(err)
		select {
		case <-time.After(wait):
			wait = min(2*wait, maxRetry)
		case <-ctx.Done():
			return nil
		}
	}
}

// follow lists once and then watches until the next list is due, or the watch
// ends. It calls listed when the list is done.
func (m *Mirror) follow(ctx context.Context, listed func()) error {
	select {
	case <-m.again: // this list will do
	default:
	}
	revision, err := m.list(ctx)
	if err != nil {
		return fmt.Errorf("list: %w", explain(err))
	}
	listed()
	m.seen(nil)
	ctx, cancel := context.WithTimeout(ctx, m.resync)
	defer cancel() // ends the watch
	err = m.watch(ctx, revision)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil
	}
	return fmt.Errorf("watch: %w", err)
}

// seen logs when etcd is lost, and when it is found again.
func (m *Mirror) seen(err error) {
	switch {
	case err != nil && !m.lost:
		m.Log.Warn("lost sight of the registry; serving its last state", "error", err)
	case err == nil && m.lost:
		m.Log.Info("the registry is in sight again")
	}
	m.lost = err != nil
}

// list reads the whole registry at one revision into the Store, and returns
// the revision. The Store changes only by what is different.
func (m *Mirror) list(ctx context.Context) (int64, error) {
	var objects []registry.Object
	var unreadable []registry.Key
	var revision int64
	present := make(map[string]bool)
	start, end := registry.Prefix, clientv3.GetPrefixRangeEnd(registry.Prefix)
	for {
		resp, err := m.page(ctx, start, end, revision)
		if err != nil {
			return 0, err
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			present[string(kv.Key)] = true
			key, obj, ok := m.decode(kv)
			switch {
			case obj != nil:
				objects = append(objects, obj)
			case ok:
				unreadable = append(unreadable, key)
			}
		}
		if !resp.More {
			break
		}
		start = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
	maps.DeleteFunc(m.bad, func(key string, _ int64) bool { return !present[key] })
	m.Store.Replace(revision, objects, unreadable...)
	return revision, nil
}

func (m *Mirror) page(ctx context.Context, start, end string, revision int64) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*requestTimeout)
	defer cancel()
	return m.Client.etcd.Get(ctx, start, clientv3.WithRange(end), clientv3.WithLimit(listPage), clientv3.WithRev(revision))
}

// watch applies what follows revision until the watch ends.
func (m *Mirror) watch(ctx context.Context, revision int64) error {
	responses := m.Client.etcd.Watch(clientv3.WithRequireLeader(ctx), registry.Prefix,
		clientv3.WithPrefix(), clientv3.WithRev(revision+1), clientv3.WithProgressNotify())
	check := time.NewTicker(m.check)
	defer check.Stop()
	for {
		select {
		case resp, ok := <-responses:
			if !ok {
				return errors.New("the watch was closed")
			}
			var err error
			if revision, err = m.apply(resp, revision); err != nil {
				return err
			}
		case <-m.again:
			return errWentBack
		case <-check.C:
			if err := m.checkRevision(ctx, revision); err != nil {
				return err
			}
		}
	}
}

// apply brings the Store from revision to that of a watch response, in one
// transaction, and returns it. A response has every event of the revisions
// that are in it: etcd cuts only where that is asked for.
func (m *Mirror) apply(resp clientv3.WatchResponse, revision int64) (int64, error) {
	// Before IsProgressNotify, which is true of an error too (etcd #6549).
	if err := resp.Err(); err != nil {
		return 0, err
	}
	if len(resp.Events) > 0 {
		revision = resp.Events[len(resp.Events)-1].Kv.ModRevision
		m.Store.Apply(revision, m.writes(resp.Events))
		return revision, nil
	}
	// Writes elsewhere in etcd: whoever waits for their revision has waited
	// long enough.
	if resp.IsProgressNotify() && resp.Header.Revision > revision {
		revision = resp.Header.Revision
		m.Store.Apply(revision, nil)
	}
	return revision, nil
}

// checkRevision returns an error when etcd is before revision. It is for a
// node that writes nothing, and hears nothing by that.
func (m *Mirror) checkRevision(ctx context.Context, revision int64) error {
	limited, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := m.Client.etcd.Get(limited, registry.Prefix) // a key that is never there
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if m.seen(err); err != nil {
		return nil // away; the watch goes on by itself when it is back
	}
	if resp.Header.Revision < revision {
		m.Store.Expire()
		return errWentBack
	}
	return nil
}

// writes turns the events of a watch response into writes of the Store.
func (m *Mirror) writes(events []*clientv3.Event) []registry.Write {
	var writes []registry.Write
	for _, ev := range events {
		if ev.Type == mvccpb.DELETE {
			delete(m.bad, string(ev.Kv.Key))
			if key, ok := registry.ParseKey(string(ev.Kv.Key)); ok {
				writes = append(writes, registry.Write{Key: key})
			}
			continue
		}
		if key, obj, _ := m.decode(ev.Kv); obj != nil {
			writes = append(writes, registry.Write{Key: key, Object: obj})
		}
	}
	return writes
}

// decode reads a value. It returns no object for one that is unreadable, and
// false when not even the key is of the registry.
func (m *Mirror) decode(kv *mvccpb.KeyValue) (registry.Key, registry.Object, bool) {
	key, ok := registry.ParseKey(string(kv.Key))
	if !ok {
		m.report(kv, errors.New("not a key of the registry"))
		return key, nil, false
	}
	obj, err := registry.Decode(key, kv.Value, kv.ModRevision)
	if err != nil {
		m.report(kv, err)
		return key, nil, true
	}
	delete(m.bad, string(kv.Key))
	m.pool.Share(obj)
	return key, obj, true
}

func (m *Mirror) report(kv *mvccpb.KeyValue, err error) {
	if m.bad[string(kv.Key)] == kv.ModRevision {
		return
	}
	m.bad[string(kv.Key)] = kv.ModRevision
	m.Report(string(kv.Key), err)
}
