package etcd

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/stats"
)

// An outcome knows whether a request may have reached etcd. One that gets no
// answer in time, and was never sent, has certainly changed nothing.
type outcome struct{ sent atomic.Bool }

type outcomeKey struct{}

// withOutcome returns a context for one request and the outcome of it.
func withOutcome(ctx context.Context) (context.Context, *outcome) {
	o := new(outcome)
	return context.WithValue(ctx, outcomeKey{}, o), o
}

// sentRequests marks the outcome of every request that is written to a
// connection. It is a grpc stats.Handler.
type sentRequests struct{}

func (sentRequests) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.OutHeader); !ok {
		return
	}
	if o, ok := ctx.Value(outcomeKey{}).(*outcome); ok {
		o.sent.Store(true)
	}
}

func (sentRequests) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (sentRequests) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (sentRequests) HandleConn(context.Context, stats.ConnStats)                       {}
