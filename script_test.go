package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

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
