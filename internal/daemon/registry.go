package daemon

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"usher/registry/etcd"
)

// embedded reports whether this daemon runs its own etcd.
func (d *daemon) embedded() bool { return len(d.Config.Etcd.Endpoints) == 0 }

// etcdServer says where the embedded etcd is.
func (d *daemon) etcdServer() etcd.ServerConfig {
	return etcd.ServerConfig{
		Dir: filepath.Join(d.Config.DataDir, "etcd"), Socket: etcd.SocketPath(d.Config.DataDir),
	}
}

// etcdConfig says how to reach etcd.
func (d *daemon) etcdConfig() etcd.Config {
	c := d.Config.Etcd
	if d.embedded() {
		c.Endpoints = []string{"unix://" + d.etcdServer().Socket}
	}
	return etcd.Config(c)
}

// superviseEtcd runs the embedded etcd until ctx is done.
func (d *daemon) superviseEtcd(ctx context.Context) error {
	return etcd.Supervise(ctx, func() *exec.Cmd { return d.EtcdCommand(d.etcdServer()) }, d.Log)
}

// registryStatus says where etcd is and how it fares. It does not wait long
// for one that does not answer.
func (d *daemon) registryStatus() string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	kind := "external etcd "
	if d.embedded() {
		kind = "embedded etcd "
	}
	return kind + d.client.Status(ctx)
}

// lockDir takes the state directory for this process, or fails at once when
// another daemon has it. The lock ends with the process.
func lockDir(dir string) (unlock func() error, err error) {
	unlock, err = etcd.Lock(dir)
	if errors.Is(err, etcd.ErrLocked) {
		return nil, fmt.Errorf("another daemon is running: %w\n  ask it:             usher status\n  or use another one: usher serve --data-dir DIR --socket PATH", err)
	}
	return unlock, err
}
