package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/registry"
	"usher/registry/etcd"
)

// childEnv makes this test binary the embedded etcd: its value is the
// directory.
const childEnv = "USHER_TEST_ETCD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := etcd.RunServer(context.Background(), etcd.ServerConfig{Dir: dir, Socket: etcd.SocketPath(dir)}, os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// newRegistryServer returns a Server over a registry in an etcd of its own,
// which ends with the test. cidrs are the service CIDRs, 10.96.0.0/16 by default.
func newRegistryServer(t testing.TB, cidrs ...string) *Server {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	if len(cidrs) == 0 {
		cidrs = []string{"10.96.0.0/16"}
	}
	var ranges []registry.IPRange
	for _, cidr := range cidrs {
		ranges = append(ranges, registry.NewIPRange(netip.MustParsePrefix(cidr)))
	}
	dir := filepath.Join(shortTempDir(t), "etcd")
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	running.Go(func() {
		err := etcd.Supervise(ctx, func() *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"="+dir)
			return cmd
		}, log)
		if err != nil {
			t.Error(err)
		}
	})
	client, err := etcd.Dial(ctx, etcd.Config{Endpoints: []string{"unix://" + etcd.SocketPath(dir)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	store := registry.NewStore()
	mirrored, stop := context.WithCancel(ctx)
	var mirror sync.WaitGroup
	t.Cleanup(func() {
		stop()
		mirror.Wait()
	})
	mirror.Go(func() {
		m := &etcd.Mirror{Client: client, Store: store, Log: log, Report: func(key string, err error) { t.Errorf("%s: %v", key, err) }}
		if err := m.Run(mirrored); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-store.Synced():
	case <-time.After(testTimeout):
		t.Fatal("the registry is not read")
	}
	s := New(Options{
		Store: store, Log: log,
		Writer: NewWriter(WriterOptions{
			Client: client, Store: store, Applied: store.WaitRevision,
			ServiceCIDRs: ranges, Pool: registry.NewIPRange(netip.MustParsePrefix("127.240.0.0/28")),
		}),
	})
	t.Cleanup(func() { s.Close() })
	return s
}
