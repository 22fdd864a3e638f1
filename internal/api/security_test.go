package api

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// Nothing that a web page can make a browser send, and nobody without a token,
// changes or reads anything, in whatever way the request is dressed up. All of
// that is over real sockets, with TLS and without.
func TestRequestsOfStrangers(t *testing.T) {
	s, store := newTestServer(t, 9, at(5, service("finance", "pay", "10.96.1.1")))
	s.opts.Tokens = map[Role]string{RoleAdmin: "TOPSECRET", RoleView: "GLIMPSE"}
	log := new(bytes.Buffer)
	s.log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	roots := certify(t, s)
	_, control, stop := start(t, s)
	clients := map[string]*http.Client{"http": tcpClient(t), "https": tlsClient(t, roots, true)}
	sent := 0
	for scheme, client := range clients {
		for _, host := range []string{"", "evil.example", "127.0.0.1.evil.example:7080", "localhost.", "169.254.1.1"} {
			for _, headers := range [][]string{
				nil,
				{"Origin", "http://evil.example"},
				{"Origin", "null"},
				{"Sec-Fetch-Site", "cross-site"},
				{"Sec-Fetch-Site", "same-site", "Content-Type", "text/plain"},
				{"Authorization", "Bearer GUESSED"},
				{"Authorization", "Basic VE9QU0VDUkVU", "Content-Type", "application/x-www-form-urlencoded"},
				{"Authorization", "Bearer", "Content-Type", "multipart/form-data; boundary=x"},
				{"Cookie", "token=TOPSECRET", "Content-Type", "application/json"},
				{"X-HTTP-Method-Override", "DELETE", "Origin", "https://evil.example"},
			} {
				for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} {
					got := send(t, client, method, scheme+"://"+control+"/api/v1/namespaces/finance/services", host, headers)
					sent++
					plainRead := method == "GET" && (host == "" || host == "localhost.") &&
						!slices.Contains(headers, "Origin") && !slices.Contains(headers, "Bearer GUESSED")
					if ok := got.code == 200; ok != plainRead || !ok && !slices.Contains([]int{401, 403}, got.code) {
						t.Errorf("%s %s Host %q %q: %d %s", scheme, method, host, headers, got.code, got.body)
					}
					if !plainRead && strings.Contains(got.body, "10.96.1.1") {
						t.Errorf("%s %s Host %q %q reads %s", scheme, method, host, headers, got.body)
					}
				}
			}
		}
	}
	if revision := store.Snapshot().Revision(); revision != 9 {
		t.Errorf("the Store has come to revision %d", revision)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, token := range []string{"TOPSECRET", "GLIMPSE", "GUESSED"} {
		if strings.Contains(log.String(), token) {
			t.Errorf("%s is in the log", token)
		}
	}
	if strings.Contains(log.String(), "panicked") {
		t.Error("a request came to the Writer")
	}
	t.Logf("%d requests", sent)
}

// send sends a request by another Host than the one that is dialed; "": by that
// one. headers are pairs.
func send(t *testing.T, client *http.Client, method, url, host string, headers []string) reply {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		r.Host = host
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return readReply(t, resp)
}

// zeros is a body without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// A body of 100 MB is refused, whether it says how long it is or not, and is
// neither kept nor read to its end.
func TestHugeBody(t *testing.T) {
	const size = 100 << 20
	s, _ := newTestServer(t, 9)
	roots := certify(t, s)
	socket, control, _ := start(t, s)
	tests := map[string]struct {
		dial    func() (net.Conn, error)
		headers string
		want    string
	}{
		"over the socket":     {func() (net.Conn, error) { return net.Dial("unix", socket) }, fmt.Sprintf("Content-Length: %d\r\n", size), "413"},
		"in chunks":           {func() (net.Conn, error) { return net.Dial("unix", socket) }, "Transfer-Encoding: chunked\r\n", "413"},
		"with a token":        {func() (net.Conn, error) { return net.Dial("tcp", control) }, fmt.Sprintf("Authorization: Bearer secret\r\nContent-Length: %d\r\n", size), "413"},
		"with TLS":            {func() (net.Conn, error) { return tls.Dial("tcp", control, &tls.Config{RootCAs: roots}) }, fmt.Sprintf("Authorization: Bearer secret\r\nContent-Length: %d\r\n", size), "413"},
		"without a token":     {func() (net.Conn, error) { return net.Dial("tcp", control) }, fmt.Sprintf("Content-Length: %d\r\n", size), "401"},
		"for a viewer":        {func() (net.Conn, error) { return net.Dial("tcp", control) }, fmt.Sprintf("Authorization: Bearer glimpse\r\nContent-Length: %d\r\n", size), "403"},
		"in a header's place": {func() (net.Conn, error) { return net.Dial("tcp", control) }, "X: " + strings.Repeat("x", maxHeaderBytes+8<<10) + "\r\n", "431"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := tt.dial()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(testTimeout))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			wrote := make(chan int64, 1)
			go func() {
				fmt.Fprintf(c, "POST /api/v1/namespaces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%s\r\n", tt.headers)
				var n int64
				if strings.Contains(tt.headers, "chunked") {
					n, _ = io.Copy(chunks{c}, io.LimitReader(zeros{}, size))
				} else {
					n, _ = io.CopyN(c, zeros{}, size)
				}
				wrote <- n
			}()
			line, err := bufio.NewReader(c).ReadString('\n')
			if !strings.Contains(line, tt.want) {
				t.Errorf("%q, %v, want %s", line, err, tt.want)
			}
			c.Close()
			if n := <-wrote; n > size/2 {
				t.Errorf("%d bytes were taken", n)
			}
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > 8*bodyLimit {
				t.Errorf("%d bytes were allocated", took)
			}
		})
	}
	if got := fetch(t, unixClient(t, socket), "http://usher/livez"); got.code != 200 {
		t.Errorf("afterwards: %d", got.code)
	}
}

// chunks writes in the chunked encoding.
type chunks struct{ net.Conn }

func (c chunks) Write(p []byte) (int, error) {
	_, err := fmt.Fprintf(c.Conn, "%x\r\n%s\r\n", len(p), p)
	return len(p), err
}

// A client that takes its time with what it has to say is not waited for.
func TestSlowClients(t *testing.T) {
	s, _ := newTestServer(t, 9)
	s.limits.header = 300 * time.Millisecond
	roots := certify(t, s)
	_, control, _ := start(t, s)
	secure := func(t *testing.T, protocols ...string) net.Conn {
		c := tls.Client(dial(t, "tcp", control), &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: protocols})
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	tests := map[string]func(t *testing.T) net.Conn{
		"says nothing": func(t *testing.T) net.Conn { return dial(t, "tcp", control) },
		"slow header": func(t *testing.T) net.Conn {
			c := dial(t, "tcp", control)
			fmt.Fprint(c, "GET /livez HTTP/1.1\r\nHost: localhost\r\n")
			return c
		},
		"no handshake": func(t *testing.T) net.Conn {
			c := dial(t, "tcp", control)
			fmt.Fprint(c, "\x16\x03\x01")
			return c
		},
		"half a handshake": func(t *testing.T) net.Conn {
			c := dial(t, "tcp", control)
			fmt.Fprint(c, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
			return c
		},
		"slow header inside TLS": func(t *testing.T) net.Conn {
			c := secure(t)
			fmt.Fprint(c, "GET /livez HTTP/1.1\r\nHost: localhost\r\n")
			return c
		},
		"nothing inside TLS": func(t *testing.T) net.Conn { return secure(t) },
	}
	for name, open := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := open(t)
			trickled := make(chan struct{})
			go func() { // a byte now and then does not help
				defer close(trickled)
				if !strings.Contains(name, "header") {
					return
				}
				for range 50 {
					if _, err := fmt.Fprint(c, "X"); err != nil {
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
			}()
			begin := time.Now()
			_, err := io.Copy(io.Discard, c)
			if took := time.Since(begin); errors.Is(err, os.ErrDeadlineExceeded) || took > 5*time.Second {
				t.Errorf("%v, after %v", err, took)
			}
			c.Close()
			<-trickled
		})
	}
	t.Cleanup(func() {
		if got := fetch(t, tlsClient(t, roots, true), "https://"+control+"/livez"); got.code != 200 {
			t.Errorf("afterwards: %d", got.code)
		}
	})
}

// A connection of HTTP/2 that has no calls ends as one of HTTP/1.1 does.
func TestIdleHTTP2(t *testing.T) {
	s, _ := newTestServer(t, 9)
	s.limits.idle = 100 * time.Millisecond
	_, control, _ := start(t, s)
	c := dial(t, "tcp", control)
	fmt.Fprint(c, http2.ClientPreface)
	framer := http2.NewFramer(c, c)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("the connection ends with %v", err)
			}
			return
		}
		// A client that does not answer is given a little longer.
		if ping, ok := frame.(*http2.PingFrame); ok && !ping.IsAck() {
			if err := framer.WritePing(true, ping.Data); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// However many watches are open on the control port, and however many requests
// are in progress there, the unix socket has room of its own.
func TestDoorsAreSeparate(t *testing.T) {
	s, _ := newTestServer(t, 9)
	roots := certify(t, s)
	socket, control, _ := start(t, s)
	client := tlsClient(t, roots, true) // few connections are enough for many watches
	open := 0
	for open <= maxWatches {
		resp, err := client.Get("https://" + control + "/api/v1/services?watch=1")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusTooManyRequests {
			break
		}
		open++
	}
	if open != maxWatches {
		t.Errorf("%d watches are open at the control port, want %d", open, maxWatches)
	}
	if got := fetch(t, client, "https://"+control+"/api/v1/services"); got.code != 200 {
		t.Errorf("a list beside them: %d %s", got.code, got.body)
	}
	resp, err := unixClient(t, socket).Get("http://usher/api/v1/services?watch=1")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("a watch on the unix socket: %d", resp.StatusCode)
	}
}

// Requests beyond the limit are told to come again.
func TestRequestLimit(t *testing.T) {
	s, _ := newTestServer(t, 9)
	d := newDoor(admitLocal)
	for range maxRequests {
		d.requests <- struct{}{}
	}
	got := ask(t, s.handler(d), "GET", "/api/v1/services", "")
	if got.code != http.StatusTooManyRequests || got.header.Get("Retry-After") != "1" {
		t.Errorf("%d %s", got.code, got.body)
	}
	openWatch(t, s.handler(d), "/api/v1/services?watch=1&timeoutSeconds=1").end()
	<-d.requests
	if got := ask(t, s.handler(d), "GET", "/api/v1/services", ""); got.code != http.StatusOK || len(d.requests) != maxRequests-1 {
		t.Errorf("%d %s, with %d requests in progress", got.code, got.body, len(d.requests))
	}
}
