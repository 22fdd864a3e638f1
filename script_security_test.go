package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// A flood is connections that say nothing.
type flood struct {
	stop    context.CancelFunc
	running sync.WaitGroup
}

type floodKey struct{}

// end closes the connections.
func (f *flood) end() {
	if f.stop != nil {
		f.stop()
		f.running.Wait()
	}
}

// cmdFlood connects to an address many times at once, and again where a
// connection is closed, until "flood -stop": flood ADDRESS COUNT. It returns when
// no more are let in.
func cmdFlood(ts *testscript.TestScript, neg bool, args []string) {
	f := ts.Value(floodKey{}).(*flood)
	if args[0] == "-stop" {
		f.end()
		return
	}
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	var limit syscall.Rlimit
	ts.Check(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	if most := int(limit.Cur) - 500; count > most {
		ts.Logf("%d connections, not %d: this process may have %d descriptors", most, count, limit.Cur)
		count = most
	}
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	ts.Defer(f.end)
	var connected atomic.Int64
	for range count {
		f.running.Go(func() { occupy(ctx, args[0], &connected) })
	}
	const waiting = 4000 // the daemon lets in 512; the rest fills the kernel's queue, 4096 by default
	if !poll(func() bool { return connected.Load() >= min(int64(count), waiting) }) {
		ts.Fatalf("%d connections are open", connected.Load())
	}
	fmt.Fprintf(ts.Stdout(), "%d connections, %d of them open\n", count, connected.Load())
}

// occupy keeps a connection to address open, by making it again where it is
// closed.
func occupy(ctx context.Context, address string, connected *atomic.Int64) {
	for ctx.Err() == nil {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			continue // the kernel's queue is full: the next try takes its time
		}
		connected.Add(1)
		stop := context.AfterFunc(ctx, func() { c.Close() })
		io.Copy(io.Discard, c)
		stop()
		c.Close()
		connected.Add(-1)
	}
}

var memory = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// cmdBounded checks that the daemon has not become large: bounded.
func cmdBounded(ts *testscript.TestScript, neg bool, args []string) {
	const maxFiles, maxMemory = 700, 200 << 10 // kB
	dir := fmt.Sprintf("/proc/%d/", ts.Value(processKey{}).(*process).cmd.Process.Pid)
	files, err := filepath.Glob(dir + "fd/*")
	ts.Check(err)
	status, err := os.ReadFile(dir + "status")
	ts.Check(err)
	kb, err := strconv.Atoi(memory.FindStringSubmatch(string(status))[1])
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%d descriptors, %d kB\n", len(files), kb)
	if len(files) > maxFiles || kb > maxMemory {
		ts.Fatalf("the daemon has %d descriptors and %d kB", len(files), kb)
	}
}

// cmdUpload sends a body of that many bytes, with the administrator's token or
// without, and prints the first line of the answer: upload ADDRESS SIZE [without
// a token].
func cmdUpload(ts *testscript.TestScript, neg bool, args []string) {
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	c, err := net.Dial("tcp", args[0])
	ts.Check(err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	authorization := ""
	if len(args) == 2 {
		authorization = "Authorization: Bearer " + strings.TrimSpace(ts.ReadFile("state/token")) + "\r\n"
	}
	var writing sync.WaitGroup
	defer writing.Wait()
	defer c.Close()
	writing.Go(func() {
		fmt.Fprintf(c, "POST /api/v1/namespaces HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %d\r\n\r\n", authorization, size)
		for chunk := make([]byte, 64<<10); size > 0; size -= int64(len(chunk)) {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	})
	line, err := bufio.NewReader(c).ReadString('\n')
	ts.Check(err)
	fmt.Fprint(ts.Stdout(), line)
}
