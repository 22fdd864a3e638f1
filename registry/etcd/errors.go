package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Errors of a Client.
var (
	ErrNotFound      = errors.New("etcd: not found")
	ErrLeaseNotFound = errors.New("etcd: the lease has ended")

	// ErrTooLarge says that a request has more than 1.5 MiB or more than 128
	// Ops, which is what etcd takes. Nothing was written.
	ErrTooLarge = errors.New("etcd: the request is larger than etcd takes")

	// ErrUnavailable says that etcd does not answer in time, or takes no
	// writes. Nothing was written, unless the error is an ErrUncertain too.
	ErrUnavailable = errors.New("the registry is not available")

	// ErrUncertain says that a write reached etcd, or may have, and that its
	// answer is missing, or leaves it open: of a write that uses up the space etcd
	// says that there is none, and makes it. Whoever needs to know has to read it
	// back: the write may even be made later, while it is on its way.
	ErrUncertain = errors.New("it is not known whether the write was made")
)

// explain turns an error of etcd's client into one of this package's.
func explain(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return ErrLeaseNotFound
	case errors.Is(err, rpctypes.ErrRequestTooLarge), errors.Is(err, rpctypes.ErrTooManyOps):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		// Deletions are taken. The embedded server does the rest by itself.
		return fmt.Errorf("%w: the space of etcd is used up; delete objects that are not needed, and try again a few seconds later "+
			"(an external etcd has to be compacted and defragmented, and its alarm disarmed: see etcdctl alarm)", ErrUnavailable)
	case errors.Is(err, rpctypes.ErrTooManyRequests):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case isUnanswered(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case code(err) == codes.ResourceExhausted: // grpc's own limit of a message
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return err
}

// isUnanswered reports whether err leaves open what became of the request, if
// it was sent.
func isUnanswered(err error) bool {
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// code returns the grpc code of an error of etcd's client.
func code(err error) codes.Code {
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return e.Code()
	}
	if s, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok {
		return s.GRPCStatus().Code()
	}
	return codes.Unknown
}
