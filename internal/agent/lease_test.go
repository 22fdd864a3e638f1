package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// renewals is a Leaser that notes when it was asked, and fails when told to.
type renewals struct {
	*fakeAPI
	start time.Time
	at    []time.Duration
}

func (r *renewals) RenewLease(ctx context.Context, name string) error {
	r.at = append(r.at, time.Since(r.start))
	return r.fakeAPI.RenewLease(ctx, name)
}

func TestLeaseKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &renewals{fakeAPI: newFakeAPI(), start: time.Now()}
		l, err := newLease(t.Context(), api, func(f string, _ ...any) { api.Write([]byte(f)) })
		if err != nil {
			t.Fatal(err)
		}
		first, changed := l.current()
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		time.AfterFunc(4*time.Second, func() { api.setDown(true) })
		time.AfterFunc(6200*time.Millisecond, func() { api.setDown(false) })
		time.AfterFunc(8200*time.Millisecond, api.expire)
		l.keep(ctx)

		ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
		want := []time.Duration{
			ms(1500), ms(3000), ms(4500), // unanswered from here
			ms(5000), ms(5500), ms(6000), ms(6500), // answered
			ms(8000), ms(9500), ms(11000),
		}
		if diff := cmp.Diff(want, api.at); diff != "" {
			t.Errorf("renewed at (-want +got):\n%s", diff)
		}
		wantLog := []string{
			"grant",
			"the daemon does not answer; the processes run on: %s",
			"the daemon answers again",
			"grant",
		}
		if diff := cmp.Diff(wantLog, api.lines()); diff != "" {
			t.Error(diff)
		}
		select {
		case <-changed:
		default:
			t.Error("the new lease was not announced")
		}
		if now, _ := l.current(); now == first {
			t.Errorf("the lease is still %s", now)
		}
	})
}
