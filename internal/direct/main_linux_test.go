//go:build amd64 || arm64

package direct

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"usher/internal/api"
	"usher/internal/client"
	"usher/registry"
)

// Roles of this test binary: usher calls Run, a client is a program that runs
// under it (see clients).
const (
	roleUsher  = "USHER_DIRECT_TEST_USHER"
	roleClient = "USHER_DIRECT_TEST_CLIENT"
	stageEnv   = "USHER_DIRECT_TEST_STAGE" // of the way into the namespace
)

// uninterrupted is the environment in which the runtime of a client sends
// itself no signals: a call that one interrupts reports EINTR, with usher and
// without.
const uninterrupted = "GODEBUG=asyncpreemptoff=1"

// patience is how long a test waits for what has to happen.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(roleUsher) != "":
		os.Exit(usherMain(os.Getenv(roleUsher)))
	case os.Getenv(roleClient) != "":
		name := os.Getenv(roleClient)
		os.Unsetenv(roleClient)
		clients[name](os.Args[1:])
		os.Exit(0)
	}
	enterNamespace()
	// Tests that are parallel wait most of the time.
	flag.Parse()
	_ = flag.Set("test.parallel", "12")
	goleak.VerifyTestMain(m)
}

// TestAsOrdinaryUser runs the other tests once more, as nobody.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 || !isolated() {
		t.Skip("the tests run as an ordinary user anyway")
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.v", "-test.timeout=240s")
	if testing.Short() {
		cmd.Args = append(cmd.Args, "-test.short")
	}
	cmd.Env = append(os.Environ(), "TMPDIR=/tmp", "HOME=/tmp", "GORACE=atexit_sleep_ms=0")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	t.Logf("as nobody:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// A setting is what the usher of a test is told.
type setting struct {
	Server     string
	ResolvConf string
	Proxied    bool // all is for the proxy, which listens nowhere
	Args       []string
}

// usherMain is what the command line does.
func usherMain(encoded string) int {
	os.Unsetenv(roleUsher)
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM} {
		if !signal.Ignored(s) {
			_, _ = signal.NotifyContext(context.Background(), s)
		}
	}
	var set setting
	if err := json.Unmarshal([]byte(encoded), &set); err != nil {
		panic(err)
	}
	c, err := client.New(set.Server, "")
	if err != nil {
		panic(err)
	}
	code, err := Run(Options{
		AllProxied: set.Proxied, Client: c, Namespace: "default", ResolvConf: set.ResolvConf,
		Say: func(line string) { fmt.Fprintln(os.Stderr, "usher: "+line) }, Otherwise: "usher exec --mode private",
		ServiceCIDR: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112")},
	}, set.Args, os.Environ())
	if err != nil {
		fmt.Fprintln(os.Stderr, "usher:", err)
	}
	return code
}

// A world is a daemon's API over a Store that a test writes.
type world struct {
	*registry.Store
	server   string // as a Client wants it
	resolv   string // path of the host's resolv.conf; "" for that of the machine
	proxied  bool   // all is for a proxy, which listens nowhere
	http     *httptest.Server
	revision int64
	watches  atomic.Int64 // that have been asked for
	reports  *reports

	lists atomic.Pointer[func() bool] // if not nil, called before a list is answered: whether it may be
}

// newWorld serves a Store with the objects of manifests.
func newWorld(t testing.TB, manifests string) *world {
	t.Helper()
	if !isolated() {
		t.Skip("SKIP: no namespaces here")
	}
	if err := Probe(); err != nil {
		t.Skipf("SKIP: %v", err)
	}
	w := &world{Store: registry.NewStore(), revision: 1, reports: newReports()}
	w.Replace(1, nil)
	w.apply(t, manifests)
	path := filepath.Join(t.TempDir(), "s")
	w.server = "unix:" + path
	w.live(t, path)
	t.Cleanup(func() { w.die() })
	return w
}

// live starts the daemon.
func (w *world) live(t testing.TB, path string) {
	t.Helper()
	handler := api.New(api.Options{Store: w.Store, Status: func() api.Status { return api.Status{} }, Reports: w.reports}).Handler()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	w.http = &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("watch") {
			w.watches.Add(1)
		} else if may := w.lists.Load(); may != nil && r.Method == http.MethodGet && !(*may)() {
			http.Error(rw, "not now", http.StatusServiceUnavailable)
			return
		}
		handler.ServeHTTP(rw, r)
	})}}
	w.http.Start()
}

// die ends the daemon, and with it its watches.
func (w *world) die() {
	w.http.CloseClientConnections()
	w.http.Close()
}

// apply writes the objects of manifests, which are separated by ---.
func (w *world) apply(t testing.TB, manifests string) {
	t.Helper()
	for document := range strings.SplitSeq(manifests, "---\n") {
		if strings.TrimSpace(document) == "" {
			continue
		}
		obj := decode(t, document)
		registry.SetDefaults(obj)
		w.revision++
		obj.SetResourceVersion(fmt.Sprint(w.revision))
		w.Apply(w.revision, []registry.Write{{Key: registry.KeyOf(obj), Object: obj}})
	}
}

// service returns the manifest of a Service and its Endpoints.
func service(name, ip string, port int, protocol string, backends ...string) string {
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"name":%q,"namespace":"default"},`+
		`"spec":{"clusterIP":%q,"clusterIPs":[%q],"ports":[{"port":%d,"protocol":%q}]}}`, name, ip, ip, port, protocol)
	var subsets []string
	for _, b := range backends {
		addr := netip.MustParseAddrPort(b)
		subsets = append(subsets, fmt.Sprintf(`{"addresses":[{"ip":%q}],"ports":[{"port":%d,"protocol":%q}]}`, addr.Addr(), addr.Port(), protocol))
	}
	return text + "\n---\n" + fmt.Sprintf(`{"apiVersion":"v1","kind":"Endpoints","metadata":{"name":%q,"namespace":"default"},"subsets":[%s]}`,
		name, strings.Join(subsets, ",")) + "\n---\n"
}

func decode(t testing.TB, document string) registry.Object {
	t.Helper()
	var head struct{ Kind string }
	if err := json.Unmarshal([]byte(document), &head); err != nil {
		t.Fatalf("%v in %s", err, document)
	}
	for _, k := range registry.Kinds {
		if k.Kind == head.Kind {
			obj, err := registry.DecodeStrict(k, []byte(document))
			if err != nil {
				t.Fatal(err)
			}
			return obj
		}
	}
	t.Fatalf("no kind %q", head.Kind)
	return nil
}

// usher returns the command of an usher that runs a program.
func (w *world) usher(args ...string) *exec.Cmd {
	encoded, _ := json.Marshal(setting{w.server, w.resolv, w.proxied, args})
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleUsher+"="+string(encoded), "GORACE=atexit_sleep_ms=0")
	return cmd
}

// client returns the command of a client, under usher or plain.
func (w *world) client(name string, args ...string) *exec.Cmd {
	cmd := w.usher(append([]string{"/proc/self/exe"}, args...)...)
	cmd.Env = append(cmd.Env, roleClient+"="+name, uninterrupted)
	return cmd
}

func plain(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleClient+"="+name, "GORACE=atexit_sleep_ms=0", uninterrupted)
	return cmd
}

// run runs cmd and returns its output and what a shell would have in $?.
func run(t testing.TB, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.WaitDelay = patience // for what the program has left
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait()
	return out.String(), errOut.String(), shellCode(cmd.ProcessState)
}

// output runs cmd, which has to succeed without a word on stderr.
func output(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	stdout, stderr, code := run(t, cmd)
	if code != 0 || stderr != "" {
		t.Fatalf("%q: code %d, output %q, errors %q", cmd.Args, code, stdout, stderr)
	}
	return stdout
}

func shellCode(p *os.ProcessState) int {
	if status := p.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.ExitCode()
}

// until waits until ok is true.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s did not come true", what)
		}
	}
}

// serve serves TCP on an address of loopback, one connection after the other.
func serve(t testing.TB, address string, each func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			each(c)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// backend serves TCP: it says its name, and waits until the client ends.
func backend(t testing.TB, name, address string) string {
	return serve(t, address, func(c net.Conn) {
		go func() {
			defer c.Close()
			fmt.Fprintln(c, name)
			_, _ = c.Read(make([]byte, 1))
		}()
	})
}

// dead returns an address of loopback that refuses.
func dead(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
