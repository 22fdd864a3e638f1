package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"
)

type backends map[string][]io.Closer

type backendsKey struct{}

// cmdBackend runs a server in this process: backend NAME ADDRESS. Over TCP it
// says its name on a line and echoes what comes, over UDP it answers with its
// name before the payload. "backend -stop NAME" ends it.
func cmdBackend(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: backend NAME ADDRESS | backend -stop NAME")
	}
	all := ts.Value(backendsKey{}).(backends)
	stop := func(name string) {
		for _, c := range all[name] {
			c.Close()
		}
		delete(all, name)
	}
	if args[0] == "-stop" {
		stop(args[1])
		return
	}
	name := args[0]
	l, err := net.Listen("tcp", args[1])
	ts.Check(err)
	p, err := net.ListenPacket("udp", args[1])
	ts.Check(err)
	all[name] = []io.Closer{l, p}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				client := c.RemoteAddr().(*net.TCPAddr).IP.String()
				fmt.Fprintln(c, strings.ReplaceAll(name, "CLIENT", client))
				io.Copy(c, c)
			})
		}
	})
	wg.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := p.ReadFrom(buf)
			if err != nil {
				return
			}
			p.WriteTo(append([]byte(name+" "), buf[:n]...), from)
		}
	})
	ts.Defer(func() {
		stop(name)
	})
}

// cmdTCP connects to an address a number of times, one after the other, and
// prints how often each backend answered: tcp ADDRESS [COUNT]. Refused
// connections are counted as "refused", reset ones as "reset".
func cmdTCP(ts *testscript.TestScript, neg bool, args []string) {
	count := 1
	if len(args) == 2 {
		count, _ = strconv.Atoi(args[1])
	}
	answers := make(map[string]int)
	for range count {
		answers[ask(args[0])]++
	}
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		fmt.Fprintf(ts.Stdout(), "%s %d\n", name, answers[name])
	}
}

func ask(address string) string {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return word(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	var buf [64]byte
	n, err := c.Read(buf[:])
	if err != nil {
		return word(err)
	}
	return strings.TrimSpace(string(buf[:n]))
}

func word(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	}
	return strings.ReplaceAll(err.Error(), " ", "-")
}

type heldKey struct{}

// cmdHold opens a connection, says hello, and holds it for the rest of the
// script: hold NAME ADDRESS. It prints where the connection comes from. "hold
// -close NAME" ends it.
func cmdHold(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: hold NAME ADDRESS | hold -close NAME")
	}
	held := ts.Value(heldKey{}).(map[string]net.Conn)
	if args[0] == "-close" {
		ts.Check(held[args[1]].Close())
		return
	}
	c, err := net.DialTimeout("tcp", args[1], patience)
	ts.Check(err)
	ts.Defer(func() { c.Close() })
	held[args[0]] = c
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(c, "hello")
	for text := ""; !strings.HasSuffix(text, "hello"); { // after the name of the backend
		var buf [64]byte
		n, err := c.Read(buf[:])
		ts.Check(err)
		text += string(buf[:n])
	}
	fmt.Fprintln(ts.Stdout(), c.LocalAddr())
}

// cmdEcho sends 1 MiB, ends its half of the connection, and checks that all
// comes back after that.
func cmdEcho(ts *testscript.TestScript, neg bool, args []string) {
	c, err := net.DialTimeout("tcp", args[0], patience)
	ts.Check(err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	sent := make([]byte, 1<<20)
	rand.Read(sent)
	var wg sync.WaitGroup
	wg.Go(func() {
		c.Write(sent)
		c.(*net.TCPConn).CloseWrite()
	})
	got, err := io.ReadAll(c)
	wg.Wait()
	ts.Check(err)
	name, rest, _ := bytes.Cut(got, []byte("\n"))
	if !bytes.Equal(rest, sent) {
		ts.Fatalf("%s echoed %d bytes of %d, or other ones", name, len(rest), len(sent))
	}
}

// cmdUDP sends a datagram from one socket a number of times and prints the
// answers' backends as cmdTCP does: udp ADDRESS [COUNT]. The socket is
// connected, so that an answer from elsewhere would not be seen.
func cmdUDP(ts *testscript.TestScript, neg bool, args []string) {
	count := 1
	if len(args) == 2 {
		count, _ = strconv.Atoi(args[1])
	}
	c, err := net.Dial("udp", args[0])
	ts.Check(err)
	defer c.Close()
	answers := make(map[string]int)
	for i := range count {
		payload := fmt.Sprintf("datagram %d", i)
		c.SetDeadline(time.Now().Add(patience))
		answer := make([]byte, 64)
		_, err := c.Write([]byte(payload))
		n := 0
		if err == nil {
			n, err = c.Read(answer)
		}
		name, rest, _ := strings.Cut(string(answer[:n]), " ")
		switch {
		case err != nil:
			answers[word(err)]++
		case rest != payload:
			ts.Fatalf("answer %q to %q", answer[:n], payload)
		default:
			answers[name]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		fmt.Fprintf(ts.Stdout(), "%s %d\n", name, answers[name])
	}
}

// cmdDig asks a nameserver and prints the rcode, with "truncated" beside it
// when the answer is, and the answers: dig SERVER NAME TYPE [tcp].
func cmdDig(ts *testscript.TestScript, neg bool, args []string) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(args[1]), dns.StringToType[args[2]])
	client := &dns.Client{Timeout: patience}
	if len(args) == 4 {
		client.Net = args[3]
	}
	in, _, err := client.Exchange(m, args[0])
	ts.Check(err)
	rcode := dns.RcodeToString[in.Rcode]
	if in.Truncated {
		rcode += " truncated"
	}
	fmt.Fprintln(ts.Stdout(), rcode)
	var lines []string
	for _, rr := range slices.Concat(in.Answer, in.Ns, in.Extra) {
		lines = append(lines, strings.Join(strings.Fields(rr.String()), " "))
	}
	slices.Sort(lines)
	for _, line := range lines {
		fmt.Fprintln(ts.Stdout(), line)
	}
}
