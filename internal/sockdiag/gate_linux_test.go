package sockdiag

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestGate checks that who waits is let in when there is something, that what
// comes while nobody waits wakes nobody, and that it is there for the next.
func TestGate(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	g, err := newGate(pipe[0])
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	write := func() {
		if _, err := unix.Write(pipe[1], []byte{1}); err != nil {
			t.Error(err)
		}
	}
	tries := 0
	read := func() bool {
		tries++
		n, _ := unix.Read(pipe[0], make([]byte, 8))
		return n > 0
	}
	time.AfterFunc(10*time.Millisecond, write)
	if err := g.wait(read); err != nil || tries != 2 {
		t.Fatalf("%v after %d tries, want it at the second", err, tries)
	}
	for range 3 {
		write()
		p := []unix.PollFd{{Fd: int32(g.file.Fd()), Events: unix.POLLIN}}
		if n, _ := unix.Poll(p, 0); n > 0 {
			t.Fatal("it wakes somebody though nobody waits")
		}
	}
	if err := g.wait(read); err != nil || tries != 3 {
		t.Fatalf("%v after %d tries, want it at once", err, tries)
	}
	time.AfterFunc(10*time.Millisecond, func() { g.Close() })
	if err := g.wait(read); err == nil {
		t.Error("it is closed, and no error")
	}
}
