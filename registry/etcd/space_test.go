package etcd

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// testQuota is enough for a dozen objects of a megabyte.
const testQuota = 16 << 20

// bigPod is a Pod of a megabyte.
func bigPod(i int) *corev1.Pod {
	p := registry.Pods.New().(*corev1.Pod)
	p.Namespace, p.Name = "default", fmt.Sprintf("big%d", i)
	p.Spec.Containers = []corev1.Container{{Name: "main", Image: "local", Args: []string{strings.Repeat("x", 1<<20)}}}
	registry.SetDefaults(p)
	return p
}

// fill writes large Pods until there is no space for another. It returns
// how many there are: more than there is space for, if they come faster than
// etcd looks.
func fill(t *testing.T, c *Client) int {
	t.Helper()
	for i := range 100 {
		_, err := c.Commit(t.Context(), put(bigPod(i), 0))
		if err == nil {
			continue
		}
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "delete objects that are not needed") {
			t.Fatalf("without space: %v", err)
		}
		return i
	}
	t.Fatal("the quota is no limit")
	return 0
}

// writeAgain makes a write as soon as there is space for it.
func writeAgain(t *testing.T, c *Client, op Op) {
	t.Helper()
	until(t, "a write", func() bool {
		_, err := c.Commit(t.Context(), op)
		if err != nil && !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// TestNoSpace uses up the space of a server, and makes room again with what
// users have: to delete objects.
func TestNoSpace(t *testing.T) {
	s := startServerIn(t, filepath.Join(t.TempDir(), "etcd"), t.Output(), fmt.Sprint(quotaEnv, "=", testQuota))
	c := s.client()
	store, _ := s.mirror(c)
	n := fill(t, c)
	for i := range n {
		commit(t, c, remove(bigPod(i), Any))
	}
	// There is room again, once what was deleted is forgotten. An alarm that comes
	// of what is not forgotten yet ends by itself, as long as no more than three
	// quarters of the space are in use.
	for i := range testQuota / 2 >> 20 {
		writeAgain(t, c, put(bigPod(i), Any))
	}
	commit(t, c, remove(bigPod(1), Any), remove(bigPod(2), Any), remove(bigPod(3), Any), remove(bigPod(4), Any))
	writeAgain(t, c, put(service("last"), Any))
	if _, err := c.Grant(t.Context(), 60e9); err != nil {
		t.Error(err)
	}
	waitRevision(t, store, commit(t, c, remove(service("last"), Any)))
	if snap := store.Snapshot(); snap.Pod("default", "big0") == nil || snap.Pod("default", "big1") != nil {
		t.Error("the Mirror does not follow")
	}
	if starts := s.started(); starts != 1 {
		t.Errorf("the server was started %d times", starts)
	}
}

// TestNoSpaceUncertain uses up the space of a server with writes that are under
// way together. etcd refuses some of them only after it has made them.
func TestNoSpaceUncertain(t *testing.T) {
	s := startServerIn(t, filepath.Join(t.TempDir(), "etcd"), t.Output(), fmt.Sprint(quotaEnv, "=", testQuota))
	c := s.client()
	const writers, writes = 8, 5
	fate := make([]error, writers*writes)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < len(fate); i += writers {
				_, fate[i] = c.Commit(t.Context(), put(bigPod(i), 0))
			}
		})
	}
	wg.Wait()
	refused, written := 0, 0
	for i, err := range fate {
		if err == nil {
			continue
		}
		refused++
		if _, getErr := c.Get(t.Context(), registry.KeyOf(bigPod(i))); getErr == nil {
			written++
			if !errors.Is(err, ErrUncertain) {
				t.Errorf("%s was written: %v", bigPod(i).Name, err)
			}
		} else if !errors.Is(getErr, ErrNotFound) {
			t.Fatal(getErr)
		}
	}
	t.Logf("%d of %d writes refused, %d of them written", refused, len(fate), written)
}

// TestNoSpaceByHistory uses up the space of a server by writing one object
// again and again: what was there before is nobody's loss.
func TestNoSpaceByHistory(t *testing.T) {
	s := startServerIn(t, filepath.Join(t.TempDir(), "etcd"), t.Output(), fmt.Sprint(quotaEnv, "=", testQuota))
	c := s.client()
	refused := 0
	for written := 0; written < 2*testQuota>>20; {
		if _, err := c.Commit(t.Context(), put(bigPod(0), Any)); err == nil {
			written++
			continue
		}
		refused++
		writeAgain(t, c, put(service("small"), Any))
	}
	if refused == 0 {
		t.Error("the quota is no limit")
	}
}

// TestNoSpaceBefore starts a server whose alarm is of an earlier run.
func TestNoSpaceBefore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	s := startServerIn(t, dir, t.Output(), fmt.Sprint(quotaEnv, "=", testQuota))
	n := fill(t, s.client())
	s.stop()
	s = startServerIn(t, dir, t.Output(), fmt.Sprint(quotaEnv, "=", 4*testQuota))
	c := s.client()
	writeAgain(t, c, put(service("small"), Any))
	if _, err := c.Get(t.Context(), registry.KeyOf(bigPod(n-1))); err != nil {
		t.Error(err)
	}
}

// TestNoSpaceAgain raises a second alarm right after room was made, as a
// write does that was under way then: it must not wait until the next rest is
// over, which on a slow disk is long.
func TestNoSpaceAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	config := ServerConfig{Dir: dir, Socket: filepath.Join(t.TempDir(), "socket"), quota: testQuota}
	server, err := embed.StartEtcd(config.embed(zap.NewNop()))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	<-server.Server.ReadyNotify()
	room := &space{server: server.Server, quota: testQuota, log: zap.NewNop()}
	for i := range 2 {
		_, err := server.Server.Alarm(t.Context(), &etcdserverpb.AlarmRequest{
			Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: uint64(server.Server.MemberID()), Alarm: etcdserverpb.AlarmType_NOSPACE,
		})
		if err != nil {
			t.Fatal(err)
		}
		if !room.alarmed() {
			t.Fatal("there is no alarm")
		}
		if room.look(t.Context()); room.alarmed() {
			t.Errorf("alarm %d stays, with all the space free", i+1)
		}
	}
}
