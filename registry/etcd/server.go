package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// ServerConfig says where an embedded server keeps its data and listens.
type ServerConfig struct {
	Dir    string // of the data; made with mode 0700
	Socket string // the unix socket for clients, as SocketPath returns it

	quota int64 // quotaBytes; others in tests
}

// Limits and clocks of the embedded server.
const (
	// A single member elects itself: with a short election it takes writes
	// 0.2 s after it was killed, instead of 1.4 s.
	tickMs     = 10
	electionMs = 100

	quotaBytes  = 512 << 20 // of the database; the default is 2 GiB
	keepHistory = "5m"      // the default is for ever

	// etcd keeps the last entries of its log in memory, 10,000 by default, and
	// 5,000 more for followers that are behind; there are none.
	snapshotEntries = 2000
	catchUpEntries  = 100

	// Of the heap; the database is mapped and not counted. It slows a server
	// that needs more, and does not stop it.
	memoryLimit = 64 << 20
)

// stopGrace bounds how long the server takes to end in order.
const stopGrace = 3 * time.Second

// RunServer runs an embedded etcd until ctx is done, or parent, which is a
// pipe from the parent process, is at its end: then the parent is gone. It
// runs in a process of its own, whose standard error is its log.
//
// It waits for a server of a parent that was killed to be gone from the
// directory, and returns ErrLocked when it stays.
func RunServer(ctx context.Context, c ServerConfig, parent io.Reader) error {
	// A service manager signals all processes of a service at once. This one is
	// needed until the parent has ended what writes to it, and says so.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
	// A small registry does not need the heap to double between collections.
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(memoryLimit)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process
		io.Copy(io.Discard, parent)
		cancel()
	}()
	unlock, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// etcd makes the socket with the umask's permissions.
	defer setUmask(setUmask(0o077))
	level := zap.NewAtomicLevelAt(zap.WarnLevel)
	c.quota = cmp.Or(c.quota, quotaBytes)
	log := newServerLog(os.Stderr, level)
	server, err := embed.StartEtcd(c.embed(log))
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	if err := serve(ctx, server, &space{server: server.Server, quota: c.quota, log: log}); err != nil {
		return err
	}
	level.SetLevel(zap.FatalLevel) // its listeners report that they are closed
	return c.close(server)
}

// open makes the directories and takes the lock, which it waits for.
func (c ServerConfig) open(ctx context.Context) (unlock func() error, err error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of etcd: %w", err)
	}
	if err := os.Chmod(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("close directory of etcd: %w", err)
	}
	// A server that ends removes the socket, and its directory below the
	// temporary one: it must be gone before this one makes its own.
	if unlock, err = waitLock(ctx, c.Dir, stopGrace+2*time.Second); err != nil {
		return nil, err
	}
	if err := c.makeSocketDir(); err != nil {
		return nil, errors.Join(err, unlock())
	}
	return unlock, nil
}

func (c ServerConfig) makeSocketDir() error {
	if dir := filepath.Dir(c.Socket); inTemporary(c.Socket) {
		return makePrivate(dir)
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory of the socket: %w", err)
	}
	return nil
}

// serve waits until ctx is done, or the server has ended by itself, and keeps
// room for writes.
func serve(ctx context.Context, server *embed.Etcd, room *space) error {
	ready := server.Server.ReadyNotify()
	look := time.NewTicker(spaceInterval)
	defer look.Stop()
	for {
		select {
		case <-ready:
			fmt.Fprintln(os.Stderr, readyLine)
			ready = nil
			room.look(ctx) // an alarm outlives a restart
		case <-look.C:
			if ready == nil {
				room.look(ctx)
			}
		case err := <-server.Err():
			return fmt.Errorf("etcd ended: %w", err)
		case <-server.Server.StopNotify():
			return errors.New("etcd ended")
		case <-ctx.Done():
			return nil
		}
	}
}

// close ends the server in order.
func (c ServerConfig) close(server *embed.Etcd) error {
	stopped := make(chan struct{})
	go func() { // ends with the process at the latest
		server.Close()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(stopGrace):
		return errors.New("etcd does not end")
	}
	if inTemporary(c.Socket) {
		return os.Remove(filepath.Dir(c.Socket))
	}
	return nil
}

// embed returns etcd's own configuration: one member, one unix socket, no TCP
// port, no HTTP gateway that a web page could reach.
func (c ServerConfig) embed(log *zap.Logger) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = "usher"
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.Dir = c.Dir
	cfg.ListenClientUrls = []url.URL{{Scheme: "unix", Path: c.Socket}}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.ListenPeerUrls = nil // there are no peers; the advertised URL is only a name
	cfg.EnableGRPCGateway = false
	cfg.TickMs, cfg.ElectionMs = tickMs, electionMs
	cfg.QuotaBackendBytes = c.quota
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, keepHistory
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = snapshotEntries, catchUpEntries
	cfg.WatchProgressNotifyInterval = 5 * time.Second
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	return cfg
}
