package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// removed has a Service say what becomes of connections to a Backend that is
// removed.
func removed(way registry.Removed) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Annotations = map[string]string{registry.AnnotationRemovedBackend: string(way)}
	}
}

// An echoed is a connection over which an echo was heard.
type echoed struct{ *net.TCPConn }

func startEcho(t testing.TB, vip netip.AddrPort) echoed {
	t.Helper()
	c := echoed{dialTCP(t, vip)}
	if got := c.say("hello"); got != "hello" {
		t.Fatalf("read %s, want an echo", got)
	}
	return c
}

// say returns what is read after text was written.
func (c echoed) say(text string) string {
	c.Write([]byte(text)) // the answer says how that went
	buf := make([]byte, len(text))
	_, err := io.ReadFull(c, buf)
	return outcome(string(buf), err)
}

// outcome returns what there was to read: text without an error.
func outcome(text string, err error) string {
	switch {
	case err == nil:
		return text
	case errors.Is(err, io.EOF):
		return "an end"
	case isReset(err):
		return "a reset"
	}
	return err.Error()
}

// TestRemovedBackend checks what becomes of connections to a Backend that
// drains, is not ready, is removed, by what the Service says.
func TestRemovedBackend(t *testing.T) { eachEngine(t, testRemovedBackend) }

func testRemovedBackend(t *testing.T, start starter) {
	h := start(t, Limits{})
	for way, want := range map[registry.Removed]string{
		registry.RemovedKeep: "hello", registry.RemovedClose: "an end", registry.RemovedReset: "a reset",
	} {
		t.Run(string(way), func(t *testing.T) {
			read := make(chan string, 3)
			a := serveTCP(t, func(c *net.TCPConn) {
				_, err := io.Copy(c, c)
				if err == nil {
					err = io.EOF
				}
				read <- outcome("", err)
			})
			b, _ := named(t, "b")
			vip, other := freePort(t, "127.96.0.5"), freePort(t, "127.96.0.6")
			h.serveAs(vip, tcp, removed(way), ends(a)...)
			h.serve(other, tcp, ends(a)...)
			c, stranger := startEcho(t, vip), startEcho(t, other)
			for _, e := range []end{{addr: a, draining: true}, {addr: a, notReady: true}, {addr: a}} {
				h.serveAs(vip, tcp, removed(way), append(ends(b), e)...)
				if got := c.say("hello"); got != "hello" {
					t.Fatalf("%+v: read %s", e, got)
				}
			}
			h.serveAs(vip, tcp, removed(way), append(ends(b), end{addr: a, notReady: true})...)
			h.serveAs(vip, tcp, removed(way), ends(b)...)
			if way == registry.RemovedKeep {
				if got := c.say("hello"); got != want {
					t.Errorf("the client read %s", got)
				}
				c.Close()
				h.awaitEnd(vip)
				return
			}
			if got := outcome(readAll(c.TCPConn)); got != want {
				t.Fatalf("the client read %s, want %s", got, want)
			}
			if got := <-read; got != want {
				t.Errorf("the backend read %s, want %s", got, want)
			}
			h.awaitEnd(vip)
			if got, want := h.statsOf(vip).Resets, map[registry.Removed]uint64{registry.RemovedReset: 1}[way]; got != want {
				t.Errorf("%d resets are counted, want %d", got, want)
			}
			if got := stranger.say("hello"); got != "hello" {
				t.Errorf("to another Service: %s", got)
			}
		})
	}
}

// readAll returns what is read, and the end as an error.
func readAll(c *net.TCPConn) (string, error) {
	b, err := io.ReadAll(c)
	if err == nil {
		err = io.EOF
	}
	return string(b), err
}

// TestRemovedBackendIsHeard checks that what a Backend had sent before it was
// removed is delivered, and then the end.
func TestRemovedBackendIsHeard(t *testing.T) { eachEngine(t, testRemovedBackendIsHeard) }

func testRemovedBackendIsHeard(t *testing.T, start starter) {
	h := start(t, Limits{})
	const size = 96 << 10
	sent, vip := make(chan struct{}), freePort(t, "127.96.0.5")
	h.serveAs(vip, tcp, removed(registry.RemovedClose), ends(serveTCP(t, func(c *net.TCPConn) {
		c.Write(make([]byte, size))
		close(sent)
		io.Copy(io.Discard, c)
	}))...)
	c := dialTCP(t, vip)
	<-sent
	h.serveAs(vip, tcp, removed(registry.RemovedClose))
	got, err := readAll(c)
	if len(got) != size || err != io.EOF {
		t.Errorf("read %d of %d bytes, then %v", len(got), size, err)
	}
	h.awaitEnd(vip)
}

// TestRemovedBackendIsReadOut checks that what has been received of a Backend that
// is removed gets to a client who had not read for so long that nothing moved.
func TestRemovedBackendIsReadOut(t *testing.T) { eachEngine(t, testRemovedBackendIsReadOut) }

func testRemovedBackendIsReadOut(t *testing.T, start starter) {
	h := start(t, Limits{})
	full, vip := make(chan struct{}), freePort(t, "127.96.0.5")
	h.serveAs(vip, tcp, removed(registry.RemovedClose), ends(serveTCP(t, func(c *net.TCPConn) {
		c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		for err := error(nil); err == nil; {
			_, err = c.Write(make([]byte, 1<<20))
		}
		close(full)
		io.Copy(io.Discard, c)
	}))...)
	c := dialTCP(t, vip)
	<-full
	moved := h.statsOf(vip).BytesDown
	h.serveAs(vip, tcp, removed(registry.RemovedClose))
	if got, err := readAll(c); uint64(len(got)) < moved {
		t.Errorf("read %d of %d bytes, then %v", len(got), moved, err)
	}
	h.awaitEnd(vip)
}

// TestRemovedBeforeAnswer checks that a Backend that is removed while it is
// dialled does not keep the client.
func TestRemovedBeforeAnswer(t *testing.T) { eachEngine(t, testRemovedBeforeAnswer) }

func testRemovedBeforeAnswer(t *testing.T, start starter) {
	h := start(t, Limits{DialTimeout: patience})
	vip := freePort(t, "127.96.0.5")
	slow, wake, _ := asleep(t)
	h.serveAs(vip, tcp, removed(registry.RemovedReset), ends(slow)...)
	c := dialTCP(t, vip)
	waitFor(t, "the connection to be dialled", func() bool { return h.statsOf(vip).Connections == 1 })
	h.serveAs(vip, tcp, removed(registry.RemovedReset))
	wake()
	if got := outcome(readAll(c)); got != "a reset" {
		t.Errorf("read %s, want a reset", got)
	}
}
