package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"usher/registry"
)

// Any is an Op's Revision when the present state does not matter.
const Any = -1

// An Op is one write of a transaction, and the state it is based on.
type Op struct {
	Key    registry.Key
	Object registry.Object // nil deletes

	// Revision is that of the present object: its resourceVersion. 0 means
	// that there must be none, Any that it does not matter.
	Revision int64

	Lease LeaseID // the object goes when this lease ends; 0: none
}

// A ConflictError says that a transaction was not made because the present
// state of an object is another than an Op was based on.
type ConflictError struct {
	Key      registry.Key
	Exists   bool
	Revision int64           // of the present object, when it exists
	Current  registry.Object // nil when it does not exist, or cannot be read
}

func (e *ConflictError) Error() string {
	if !e.Exists {
		return fmt.Sprintf("%s does not exist", e.Key)
	}
	return fmt.Sprintf("%s exists at revision %d", e.Key, e.Revision)
}

// Commit writes all ops in one transaction, or none. It returns the revision
// of the transaction, and a *ConflictError about the first Op whose Revision
// does not hold. No two ops may have the same Key.
//
// It makes one attempt. ErrUnavailable says that there was no answer within
// 2 s, or that etcd has no space for the ops: then they were not written, unless
// the error is ErrUncertain too.
func (c *Client) Commit(ctx context.Context, ops ...Op) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	ctx, outcome := withOutcome(ctx)
	var conditions []clientv3.Cmp
	var writes, reads []clientv3.Op
	for _, op := range ops {
		key := op.Key.String()
		if op.Revision != Any {
			// The mod revision of a key that does not exist is 0.
			conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(key), "=", op.Revision))
		}
		reads = append(reads, clientv3.OpGet(key))
		if op.Object == nil {
			writes = append(writes, clientv3.OpDelete(key))
			continue
		}
		value, err := registry.Encode(op.Object)
		if err != nil {
			return 0, err
		}
		writes = append(writes, clientv3.OpPut(key, string(value), clientv3.WithLease(clientv3.LeaseID(op.Lease))))
	}
	known := c.known()
	resp, err := c.etcd.Txn(ctx).If(conditions...).Then(writes...).Else(reads...).Commit()
	if err != nil {
		// "No space" may be said of a write that was made all the same.
		if (isUnanswered(err) || errors.Is(err, rpctypes.ErrNoSpace)) && outcome.sent.Load() {
			return 0, fmt.Errorf("commit: %w: %w", ErrUncertain, explain(err))
		}
		return 0, fmt.Errorf("commit: %w", explain(err))
	}
	c.answered(known, resp.Header.Revision, resp.Succeeded && wrote(resp))
	if resp.Succeeded {
		return resp.Header.Revision, nil
	}
	return 0, conflict(ops, resp)
}

// wrote reports whether a transaction that succeeded has changed anything: to
// delete what is not there does not.
func wrote(resp *clientv3.TxnResponse) bool {
	return slices.ContainsFunc(resp.Responses, func(r *etcdserverpb.ResponseOp) bool {
		return r.GetResponsePut() != nil || r.GetResponseDeleteRange().GetDeleted() > 0
	})
}

// conflict finds the first of ops whose condition did not hold.
func conflict(ops []Op, resp *clientv3.TxnResponse) error {
	for i, op := range ops {
		kvs := resp.Responses[i].GetResponseRange().Kvs
		var present int64
		if len(kvs) > 0 {
			present = kvs[0].ModRevision
		}
		if op.Revision == Any || op.Revision == present {
			continue
		}
		e := &ConflictError{Key: op.Key, Exists: len(kvs) > 0, Revision: present}
		if e.Exists {
			e.Current, _ = registry.Decode(op.Key, kvs[0].Value, present)
		}
		return e
	}
	panic("etcd: a transaction failed whose conditions hold")
}
