package etcd

import (
	"context"
	"fmt"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A LeaseID names a lease: its objects are deleted when it ends.
type LeaseID int64

// String returns the name of the lease, as ParseLease reads it.
func (id LeaseID) String() string { return strconv.FormatInt(int64(id), 16) }

// ParseLease reads the name of a lease.
func ParseLease(name string) (LeaseID, error) {
	id, err := strconv.ParseInt(name, 16, 64)
	if err != nil || id <= 0 {
		return 0, fmt.Errorf("%q is not the name of a lease", name)
	}
	return LeaseID(id), nil
}

// Grant grants a lease that ends after ttl, in whole seconds, without a
// KeepAlive.
func (c *Client) Grant(ctx context.Context, ttl time.Duration) (LeaseID, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.etcd.Grant(ctx, int64(ttl/time.Second))
	if err != nil {
		return 0, fmt.Errorf("grant lease: %w", explain(err))
	}
	return LeaseID(resp.ID), nil
}

// KeepAlive restarts the time of a lease, once. It returns ErrLeaseNotFound
// for one that has ended.
func (c *Client) KeepAlive(ctx context.Context, id LeaseID) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if _, err := c.etcd.KeepAliveOnce(ctx, clientv3.LeaseID(id)); err != nil {
		return fmt.Errorf("keep lease %s alive: %w", id, explain(err))
	}
	return nil
}

// Revoke ends a lease and returns the revision at which its objects are gone.
func (c *Client) Revoke(ctx context.Context, id LeaseID) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	held, err := c.etcd.TimeToLive(ctx, clientv3.LeaseID(id), clientv3.WithAttachedKeys())
	if err != nil {
		return 0, fmt.Errorf("revoke lease %s: %w", id, explain(err))
	}
	known := c.known()
	resp, err := c.etcd.Revoke(ctx, clientv3.LeaseID(id))
	if err != nil {
		return 0, fmt.Errorf("revoke lease %s: %w", id, explain(err))
	}
	c.answered(known, resp.Header.Revision, false) // the objects may have gone before
	if len(held.Keys) == 0 {
		return 0, nil
	}
	return resp.Header.Revision, nil
}
