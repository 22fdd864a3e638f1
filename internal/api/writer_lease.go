package api

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"usher/registry/etcd"
)

var leaseResource = schema.GroupResource{Group: Group, Resource: "leases"}

// GrantLease grants a lease and returns its name.
func (w *Writer) GrantLease(ctx context.Context, ttl time.Duration) (string, error) {
	id, err := w.Client.Grant(ctx, ttl)
	if err != nil {
		return "", leaseError(err, "")
	}
	return id.String(), nil
}

// RenewLease restarts the time of a lease. It answers NotFound for one that
// has ended.
func (w *Writer) RenewLease(ctx context.Context, name string) error {
	id, err := etcd.ParseLease(name)
	if err != nil {
		return apierrors.NewNotFound(leaseResource, name)
	}
	return leaseError(w.Client.KeepAlive(ctx, id), name)
}

// RevokeLease ends a lease; the objects under it are gone when it returns.
func (w *Writer) RevokeLease(ctx context.Context, name string) error {
	id, err := etcd.ParseLease(name)
	if err != nil {
		return apierrors.NewNotFound(leaseResource, name)
	}
	revision, err := w.Client.Revoke(ctx, id)
	if err != nil {
		return leaseError(err, name)
	}
	return w.applied(ctx, revision)
}

func leaseError(err error, name string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, etcd.ErrLeaseNotFound):
		return apierrors.NewNotFound(leaseResource, name)
	case errors.Is(err, etcd.ErrUnavailable):
		return apierrors.NewServiceUnavailable(err.Error())
	}
	return apierrors.NewInternalError(err)
}
