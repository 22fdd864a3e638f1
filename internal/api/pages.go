package api

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
)

const (
	// maxKept bounds the states of the registry that are kept for lists that
	// clients read page by page. One holds what has been replaced since.
	maxKept = 8

	// keptFor is for how long one is kept after its last page.
	keptFor = 5 * time.Minute // as long as etcd keeps what kube-apiserver reads
)

// A cursor is where a list goes on: the content of a continue token.
type cursor struct {
	Revision int64  `json:"rv"`    // 0: whatever there is now
	After    string `json:"start"` // the place of the last object of the page before
}

func (c cursor) String() string {
	data, _ := json.Marshal(c) // of a number and a string
	return base64.RawURLEncoding.EncodeToString(data)
}

// parseCursor reads a continue token.
func parseCursor(token string) (cursor, error) {
	var c cursor
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err == nil && (c.Revision < 0 || c.After == "") {
		err = fmt.Errorf("incorrect encoded start key")
	}
	if err != nil {
		return cursor{}, apierrors.NewBadRequest(fmt.Sprintf("continue key is not valid: %v", err))
	}
	return c, nil
}

// placeOf returns the place of an object in a list: the order of places is that
// of Snapshot.List.
func placeOf(obj registry.Object) string { return obj.GetNamespace() + "/" + obj.GetName() }

// A page is a part of a list.
type page struct {
	metav1.ListMeta

	snapshot *registry.Snapshot
	objects  []registry.Object
}

// cut returns the page of at most limit objects after a place; limit 0 is no
// limit. What remains is said where no selector leaves any of it out, as in
// Kubernetes.
func (s selection) cut(snapshot *registry.Snapshot, after string, limit int64) page {
	objects := s.objects(snapshot)
	if after != "" {
		from, found := slices.BinarySearchFunc(objects, after, func(obj registry.Object, place string) int {
			return cmp.Compare(placeOf(obj), place)
		})
		if found {
			from++
		}
		objects = objects[from:]
	}
	p := page{listMeta(snapshot), snapshot, objects}
	if limit > 0 && int64(len(objects)) > limit {
		p.objects = objects[:limit]
		p.Continue = cursor{snapshot.Revision(), placeOf(p.objects[limit-1])}.String()
		if s.labels.Empty() && s.fields.Empty() {
			p.RemainingItemCount = new(int64(len(objects)) - limit)
		}
	}
	return p
}

// kept has the states of the registry that lists have further pages of.
type kept struct {
	mu     sync.Mutex // guards the following
	list   []keptSnapshot
	expiry *time.Timer // keptFor after the last page of all; nil before the first
}

type keptSnapshot struct {
	*registry.Snapshot

	used time.Time
}

func (s keptSnapshot) expired(now time.Time) bool { return now.Sub(s.used) >= keptFor }

// put keeps a state for the pages that follow.
func (k *kept) put(snapshot *registry.Snapshot, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = slices.DeleteFunc(k.list, func(s keptSnapshot) bool {
		return s.Revision() == snapshot.Revision() || s.expired(now)
	})
	k.list = append(k.list, keptSnapshot{snapshot, now}) // the last used is the last
	if len(k.list) > maxKept {
		k.list = slices.Delete(k.list, 0, len(k.list)-maxKept)
	}
	if k.expiry == nil {
		k.expiry = time.AfterFunc(keptFor, k.expire)
	} else {
		k.expiry.Reset(keptFor)
	}
}

// expire drops what no put would drop, when there are no more lists by pages.
func (k *kept) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = slices.DeleteFunc(k.list, func(s keptSnapshot) bool { return s.expired(time.Now()) })
}

// at returns the state at a revision, or nil when it is not kept any more.
func (k *kept) at(revision int64, now time.Time) *registry.Snapshot {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.list {
		if s.Revision() == revision && !s.expired(now) {
			return s.Snapshot
		}
	}
	return nil
}

// errPageGone is the answer to a token whose state is gone. Its own token goes
// on with what there is now.
func errPageGone(c cursor) error {
	err := apierrors.NewResourceExpired("The provided continue parameter is too old " +
		"to display a consistent list result. You can start a new list without " +
		"the continue parameter, or use the continue token in this response to " +
		"retrieve the remainder of the results. Continuing with the provided " +
		"token results in an inconsistent list - objects that were created, " +
		"modified, or deleted between the time the first chunk was returned " +
		"and now may show up in the list.")
	err.ErrStatus.Continue = cursor{After: c.After}.String()
	return err
}
