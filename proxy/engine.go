package proxy

import (
	"context"
	"log/slog"

	"usher/registry"
)

// An engine opens listeners and moves the bytes that come in by them. The
// portable one uses goroutines and the net package.
type engine interface {
	// listen opens a listener for f at an address.
	listen(f *frontend, at ListenAddr) (listener, error)

	// shards is how many parts the engine has that count for themselves.
	shards() int

	// clock is the time by which the engine tells Pickers what it does, in ns.
	clock() int64

	// tidy is called when the Backends of f have changed, for those that count
	// what has come to them.
	tidy(f *frontend)

	// cut ends the connections of f to Backends that have been removed, as f
	// wants that.
	cut(f *frontend)

	// connections answers a query without disturbing the data path.
	connections(ctx context.Context, q *query) error

	// run does what the engine has to do besides its listeners, until ctx is
	// done. Then it ends all connections and waits for everything it started.
	run(ctx context.Context) error
}

// engineOptions are what an engine works with.
type engineOptions struct {
	Limits

	own         *addressSet // addresses that the Proxy listens at, which are not to be dialled
	transparent bool        // Backends can be dialled from the address of a client
	log         *slog.Logger
}

// A listener is open for one Frontend at one address.
type listener interface {
	// update is called when the Backends of the Frontend have changed: its
	// Picker has the new ones already. After an error the listener is closed.
	update(*registry.Frontend) error

	// close stops listening. TCP connections go on, flows end.
	close()
}
