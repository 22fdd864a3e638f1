package etcd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLock(t *testing.T) {
	dir := t.TempDir()
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err = Lock(dir)
	if want := fmt.Sprintf("%s is locked by process %d", dir, os.Getpid()); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), want) {
		t.Errorf("second lock: %v, want %q in it", err, want)
	}
	if took := time.Since(start); took > 100*time.Millisecond {
		t.Errorf("the second lock failed after %v", took)
	}
	if _, err := waitLock(context.Background(), dir, 20*time.Millisecond); !errors.Is(err, ErrLocked) {
		t.Errorf("waited for a lock: %v, want ErrLocked", err)
	}
	time.AfterFunc(20*time.Millisecond, func() { unlock() })
	unlock2, err := waitLock(context.Background(), dir, patience)
	if err != nil {
		t.Fatal(err)
	}
	// Whatever the file says, its lock counts.
	if err := os.WriteFile(filepath.Join(dir, lockName), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("lock with garbage in its file: %v", err)
	}
	unlock2()
	if _, err := Lock(filepath.Join(dir, "missing")); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("lock of no directory: %v", err)
	}
}
