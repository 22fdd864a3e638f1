package etcd

import "errors"

// etcd goes back when it is restored from a backup or begun anew. Nothing says
// so: the id of the cluster follows from its configuration and stays, and a
// watch from a revision that is now in the future is silent until it comes.
//
// Revisions do. A write has a higher one than whatever was known when it was
// sent, and no other answer has a lower one. So an answer below what the Store
// had before the request is of another history: the Mirror lists at once, and
// the Store waits for that list. It does not help to compare with what the
// Store has after the answer, where its own events may come first.

var errWentBack = errors.New("etcd went back: it was restored from a backup, or begun anew")

// known returns the revision up to which the Store follows etcd, or 0.
func (c *Client) known() int64 {
	if m := c.mirror.Load(); m != nil {
		return m.Store.Snapshot().Revision()
	}
	return 0
}

// answered takes the revision of an answer to a request that was sent when
// known was known, and whether the request has written something.
func (c *Client) answered(known, revision int64, wrote bool) {
	if revision > known || revision == known && !wrote {
		return
	}
	if m := c.mirror.Load(); m != nil {
		m.wentBack()
	}
}

// wentBack has the Mirror list anew. It does not wait for that.
func (m *Mirror) wentBack() {
	m.Store.Expire()
	select {
	case m.again <- struct{}{}:
	default:
	}
}
