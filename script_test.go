package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/client"
	"usher/registry"
)

// patience is how long a script waits for what has to happen.
const patience = 40 * time.Second

// poll asks ok every few milliseconds until it says yes or patience ends.
func poll(ok func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if ok() {
			return true
		}
	}
	return false
}

// cmdUntil runs a command again and again until it succeeds and its output
// matches a pattern: until PATTERN exec COMMAND ARG…, until PATTERN http METHOD
// URL, or until PATTERN tcp ADDRESS; with ! until the output does not match.
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 || !slices.Contains([]string{"exec", "http", "tcp"}, args[1]) {
		ts.Fatalf("usage: [!] until PATTERN exec COMMAND ARG… | [!] until PATTERN http METHOD URL | [!] until PATTERN tcp ADDRESS")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	var out string
	if !poll(func() bool {
		var err error
		switch args[1] {
		case "tcp":
			out = ask(args[2])
		case "http":
			out, err = sendHTTP(ts, args[2:])
		default:
			err = ts.Exec(args[2], args[3:]...)
			out = ts.ReadFile("stdout") + ts.ReadFile("stderr")
		}
		return pattern.MatchString(out) != neg && (err == nil || neg)
	}) {
		ts.Fatalf("%q did not come true; last output:\n%s", strings.Join(args, " "), out)
	}
}

// testServer is the program that scripts run as Pods: it says the name of its
// Pod to everybody who connects, and leaves its pid in a file of that name.
func testServer() {
	l, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT")))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	name := os.Getenv("POD_NAME")
	if err := os.WriteFile(name+".pid", []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		fmt.Fprintln(c, name)
		c.Close()
	}
}

// cmdKillPod kills the processes of this script that have the name of a Pod in
// their environment: killpod NAME.
func cmdKillPod(ts *testscript.TestScript, neg bool, args []string) {
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	ts.Check(err)
	killed := false
	for _, file := range all {
		data, _ := os.ReadFile(file) // it may be another user's, or gone
		environ := "\x00" + string(data)
		if strings.Contains(environ, "\x00POD_NAME="+args[0]+"\x00") &&
			strings.Contains(environ, "\x00USHER_DATADIR="+ts.Getenv("USHER_DATADIR")+"\x00") {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			ts.Check(err)
			ts.Check(syscall.Kill(pid, syscall.SIGKILL))
			killed = true
		}
	}
	if !killed {
		ts.Fatalf("no process of %s", args[0])
	}
}

// cmdGone waits until the process of a Pod is no more: gone NAME.
func cmdGone(ts *testscript.TestScript, neg bool, args []string) {
	pid := strings.TrimSpace(ts.ReadFile(args[0] + ".pid"))
	if !poll(func() bool {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || bytes.Contains(stat, []byte(") Z ")) // nobody may have taken its status
	}) {
		ts.Fatalf("process %s of %s is still there", pid, args[0])
	}
}

// cmdKillEtcd kills the embedded etcd of the daemon.
func cmdKillEtcd(ts *testscript.TestScript, neg bool, args []string) {
	daemon := ts.Value(processKey{}).(*process).cmd.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", daemon, daemon))
	ts.Check(err)
	if len(children) == 0 { // another thread started it
		all, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", daemon))
		ts.Check(err)
		for _, file := range all {
			more, _ := os.ReadFile(file)
			children = append(children, more...)
		}
	}
	pid, err := strconv.Atoi(strings.Fields(string(children))[0])
	ts.Check(err)
	ts.Check(syscall.Kill(pid, syscall.SIGKILL))
}

// cmdHundred makes a hundred Services over one backend and connects to each at
// once: hundred BACKEND.
func cmdHundred(ts *testscript.TestScript, neg bool, args []string) {
	backend := netip.MustParseAddrPort(args[0])
	c, err := client.New(ts.Getenv("USHER_SERVER"), "")
	ts.Check(err)
	defer c.Close()
	ctx := context.Background()
	seen := make(map[string]bool)
	var took []time.Duration
	for i := range 100 {
		eps := registry.Endpoints.New().(*corev1.Endpoints)
		eps.Namespace, eps.Name = "default", fmt.Sprint("s-", i)
		eps.Subsets = []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: backend.Addr().String()}},
			Ports:     []corev1.EndpointPort{{Port: int32(backend.Port())}},
		}}
		_, err := c.Create(ctx, eps)
		ts.Check(err)
		svc := registry.Services.New().(*corev1.Service)
		svc.Namespace, svc.Name = "default", eps.Name
		svc.Spec.Ports = []corev1.ServicePort{{Port: 80}}
		start := time.Now()
		out, err := c.Create(ctx, svc)
		ts.Check(err)
		took = append(took, time.Since(start))
		ip := out.(*corev1.Service).Spec.ClusterIP
		if seen[ip] {
			ts.Fatalf("%s was given twice", ip)
		}
		seen[ip] = true
		if got := ask(ip + ":80"); got != "a" {
			ts.Fatalf("Service %d at %s: %s", i, ip, got)
		}
		ts.Check(c.Delete(ctx, registry.KeyOf(eps), metav1.DeleteOptions{}))
		if got := ask(ip + ":80"); got != "refused" {
			ts.Fatalf("Service %d at %s without its endpoint: %s", i, ip, got)
		}
	}
	slices.Sort(took)
	fmt.Fprintf(ts.Stdout(), "a Service was created and served in %v at the median, %v at most\n", took[50], took[99])
}

// cmdHTTP sends a request and prints the code and the body: http METHOD URL
// [HEADER:VALUE].
func cmdHTTP(ts *testscript.TestScript, neg bool, args []string) {
	out, err := sendHTTP(ts, args)
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), out)
}

func sendHTTP(ts *testscript.TestScript, args []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, args[0], args[1], nil)
	ts.Check(err)
	if len(args) == 3 {
		name, value, _ := strings.Cut(args[2], ":")
		req.Header.Set(name, value)
		if name == "Host" {
			req.Host = value
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %s", resp.StatusCode, body), err
}

// cmdWatching waits until a client has a watch open: watching.
func cmdWatching(ts *testscript.TestScript, neg bool, args []string) {
	c, err := client.New(ts.Getenv("USHER_SERVER"), "")
	ts.Check(err)
	defer c.Close()
	if !poll(func() bool {
		resp, err := c.Do(context.Background(), http.MethodGet, "/metrics", nil, "", nil)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(body), "\nusher_api_watches 1\n")
	}) {
		ts.Fatalf("nobody watches")
	}
}

// cmdReadToken puts a token of the daemon's into the environment, and checks
// that nobody else could: readtoken FILE.
func cmdReadToken(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs("state/" + args[0])
	info, err := os.Stat(path)
	ts.Check(err)
	if info.Mode().Perm() != 0o600 {
		ts.Fatalf("%s has mode %v", path, info.Mode())
	}
	ts.Setenv("USHER_TOKEN", strings.TrimSpace(ts.ReadFile(path)))
}

// cmdEtcdPut writes a value into the daemon's etcd, past the API: etcdput KEY
// VALUE.
func cmdEtcdPut(ts *testscript.TestScript, neg bool, args []string) {
	c, err := dialEtcd(ts)
	ts.Check(err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err = c.Put(ctx, args[0], args[1])
	ts.Check(err)
}

func dialEtcd(ts *testscript.TestScript) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: []string{"unix://" + ts.MkAbs("state/etcd.sock")}, Logger: zap.NewNop(), DialTimeout: patience,
	})
}

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
