package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.uber.org/zap"
)

const (
	// spaceInterval is between two looks for an alarm.
	spaceInterval = time.Second

	// spaceRest is how much longer than an attempt to make room is the pause
	// after it when it was in vain: etcd does not answer meanwhile. On a slow
	// disk that must not keep from the next one whoever deletes objects.
	spaceRest    = 10
	spaceRestMax = 3 * time.Second
)

// A space makes room when the database has reached its quota. etcd raises an
// alarm then, refuses to write and waits for an administrator, whom the
// embedded server does not have: its socket is private.
type space struct {
	server *etcdserver.EtcdServer
	quota  int64
	log    *zap.Logger

	full    int64     // revision at which there was no room to be made; 0: none
	resting time.Time // until when there is no attempt
	told    bool      // that there is no room
}

var errFull = errors.New("it is in use")

// look makes room if that is needed and of use: where all of it was in use,
// only after something was deleted.
func (s *space) look(ctx context.Context) {
	if !s.alarmed() {
		s.full, s.told = 0, false
		return
	}
	revision := s.server.KV().Rev()
	if revision == s.full || time.Now().Before(s.resting) {
		return
	}
	start := time.Now()
	err := s.makeRoom(ctx, revision)
	used := zap.String("used", fmt.Sprintf("%d of %d KiB", s.server.Backend().Size()/1024, s.quota/1024))
	if err == nil {
		// A write that is refused just now may raise the next alarm. It is not
		// rested from success: a quarter of the space at least has come of it.
		s.full, s.told = 0, false
		s.log.Warn("the space for the registry was used up; there is room again", used)
		return
	}
	s.resting = time.Now().Add(min(spaceRest*time.Since(start), spaceRestMax))
	if errors.Is(err, errFull) {
		s.full = revision
	}
	if !s.told {
		s.told = true
		s.log.Error("the space for the registry is used up; nothing can be written until objects are deleted", used, zap.Error(err))
	}
}

func (s *space) alarmed() bool {
	for _, alarm := range s.server.Alarms() {
		if alarm.Alarm == etcdserverpb.AlarmType_NOSPACE {
			return true
		}
	}
	return false
}

// makeRoom drops all history, gives back what is free, and ends the alarm if
// the rest is well below the quota: close to it the alarm would be back at once.
// An alarm of a write that was under way at the last time just ends.
func (s *space) makeRoom(ctx context.Context, revision int64) error {
	if s.roomy() {
		return s.endAlarm(ctx)
	}
	_, err := s.server.Compact(ctx, &etcdserverpb.CompactionRequest{Revision: revision, Physical: true})
	if err != nil && !errors.Is(err, mvcc.ErrCompacted) {
		return fmt.Errorf("compact: %w", err)
	}
	if err := s.server.Defragment(); err != nil {
		return fmt.Errorf("defragment: %w", err)
	}
	if !s.roomy() {
		return errFull
	}
	return s.endAlarm(ctx)
}

// roomy reports whether the database is well below its quota.
func (s *space) roomy() bool { return s.server.Backend().Size() <= s.quota/4*3 }

func (s *space) endAlarm(ctx context.Context) error {
	_, err := s.server.Alarm(ctx, &etcdserverpb.AlarmRequest{
		Action: etcdserverpb.AlarmRequest_DEACTIVATE, MemberID: uint64(s.server.MemberID()), Alarm: etcdserverpb.AlarmType_NOSPACE,
	})
	if err != nil {
		return fmt.Errorf("end the alarm: %w", err)
	}
	return nil
}
