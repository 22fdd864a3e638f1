package sockets

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"usher/internal/nstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns both ends of a connection of unix sockets.
func pair(t *testing.T) (lender, borrower *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	return c, accepted
}

// namespaceOf returns a number that the network namespaces of sockets differ in.
func namespaceOf(t *testing.T, fd int) uint64 {
	t.Helper()
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		t.Skipf("SKIP: SO_NETNS_COOKIE needs Linux 5.14: %v", err)
	}
	return cookie
}

// TestNamespace checks that sockets are of the lender's network namespace.
func TestNamespace(t *testing.T) {
	if !nstest.In(t, 0) {
		return
	}
	lender, borrower := pair(t)
	ended, said := make(chan error), make(chan bool, 1)
	go func() {
		runtime.LockOSThread() // and ends with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		ended <- newLoan(lender).Serve(func() { said <- true })
	}()
	b := NewBorrower(borrower)
	lent, err := b.Socket(unix.AF_INET, unix.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(lent)
	own, err := open(unix.AF_INET, unix.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(own)
	if namespaceOf(t, lent) == namespaceOf(t, own) {
		t.Error("it is of the namespace of the borrower")
	}
	if err := b.Ready(); err != nil {
		t.Error(err)
	}
	<-said
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("the lender does not know that the loan has ended")
	}
}

func TestSocket(t *testing.T) {
	lender, borrower := pair(t)
	ended := make(chan error)
	go func() { ended <- newLoan(lender).Serve(func() {}) }()
	b := NewBorrower(borrower)
	tests := []struct {
		domain, kind int
		want         error
	}{
		{unix.AF_INET, unix.SOCK_STREAM, nil},
		{unix.AF_INET6, unix.SOCK_DGRAM, nil},
		{unix.AF_UNIX, unix.SOCK_STREAM, syscall.EINVAL},
		{unix.AF_INET, unix.SOCK_RAW, syscall.EINVAL},
		{unix.AF_INET, unix.SOCK_DGRAM, nil}, // after errors
	}
	for _, tt := range tests {
		fd, err := b.Socket(tt.domain, tt.kind)
		if !errors.Is(err, tt.want) {
			t.Errorf("domain %d, kind %d: %v, want %v", tt.domain, tt.kind, err, tt.want)
		}
		if err != nil {
			continue
		}
		kind, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if kind != tt.kind || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("domain %d, kind %d: got kind %d, flags %x", tt.domain, tt.kind, kind, flags)
		}
		unix.Close(fd)
	}

	lender.Close()
	<-ended
	<-b.Done()
	if _, err := b.Socket(unix.AF_INET, unix.SOCK_STREAM); err == nil {
		t.Error("a socket of nobody")
	}
	b.Close()
}

// TestUnasked checks that a lender which speaks out of turn is left.
func TestUnasked(t *testing.T) {
	lender, borrower := pair(t)
	defer lender.Close()
	b := NewBorrower(borrower)
	defer b.Close()
	lender.Write([]byte{0}) // without a descriptor, and nobody has asked
	if fd, err := b.Socket(unix.AF_INET, unix.SOCK_STREAM); err == nil {
		t.Errorf("got the descriptor %d", fd)
	}
}

func TestOffer(t *testing.T) {
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"refused": {func(w http.ResponseWriter, r *http.Request) { http.Error(w, "not here", http.StatusBadRequest) }, "400 Bad Request: not here"},
		"no http": {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			srv := &http.Server{Handler: tt.handler}
			go srv.Serve(l)
			defer srv.Close()
			if _, err := Offer(path, &url.URL{Path: "/views"}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	if _, err := Offer(filepath.Join(t.TempDir(), "none"), &url.URL{}); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("%v, want ENOENT", err)
	}
}
