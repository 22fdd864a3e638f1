package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain runs the tests inside a network and a mount namespace of their own
// where that is allowed: real ClusterIPs exist there, and nothing that the
// tests dial can leave.
func TestMain(m *testing.M) {
	commands := map[string]func(){"usher": main, "usher-test-server": testServer, "usher-test-http": testHTTP}
	if commands[filepath.Base(os.Args[0])] == nil {
		if signal.Ignored(os.Interrupt) { // as in the background of a script; ours end daemons by it
			signal.Notify(make(chan os.Signal, 1), os.Interrupt)
		}
		enterNamespace()
	}
	testscript.Main(m, commands)
}

// isolated reports whether the process is in the namespaces of enterNamespace.
func isolated() bool { return os.Getenv(isolatedEnv) == "yes" }

const isolatedEnv = "USHER_TEST_ISOLATED"

// TestScripts runs testdata/script against the real binary over real sockets.
// They run one after the other, since they share a network namespace.
func TestScripts(t *testing.T) {
	testscript.Run(t, scripts("testdata/script"))
}

// scripts returns what all scripts of a directory share.
func scripts(dir string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			bin, err := filepath.Abs("bin") // what `make tools` builds
			if err != nil {
				return err
			}
			env.Setenv("PATH", env.Getenv("PATH")+string(filepath.ListSeparator)+bin)
			env.Setenv("USHER_DATADIR", filepath.Join(env.WorkDir, "state"))
			env.Setenv("USHER_SETUPDIR", filepath.Join(env.WorkDir, "setup"))
			env.Setenv("USHER_API_SOCKET", filepath.Join(env.WorkDir, "api.sock"))
			env.Setenv("USHER_SERVER", "unix:"+filepath.Join(env.WorkDir, "api.sock"))
			env.Setenv("USHER_NODENAME", "node-1")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // each command would wait a second at its end
			env.Values[processKey{}] = new(process)
			env.Values[backendsKey{}] = make(backends)
			env.Values[heldKey{}] = make(map[string]net.Conn)
			env.Values[floodKey{}] = new(flood)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "isolated":
				return isolated(), nil
			case "root":
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve":   cmdServe,
			"quit":    cmdQuit,
			"crash":   cmdCrash,
			"backend": cmdBackend,
			"tcp":     cmdTCP,
			"from":    cmdFrom,
			"echo1m":  cmdEcho,
			"hold":    cmdHold,
			"udp":     cmdUDP,
			"dig":     cmdDig,
			"until":   cmdUntil,

			"killpod":  cmdKillPod,
			"gone":     cmdGone,
			"killetcd": cmdKillEtcd,
			"etcdput":  cmdEtcdPut,

			"etcdcompact": cmdEtcdCompact,
			"samedns":     cmdSameDNS,

			"example":   cmdExample,
			"clusterip": cmdClusterIP,
			"hundred":   cmdHundred,
			"rolling":   cmdRolling,
			"http":      cmdHTTP,
			"readtoken": cmdReadToken,
			"watching":  cmdWatching,
			"flood":     cmdFlood,
			"bounded":   cmdBounded,
			"upload":    cmdUpload,
		},
	}
}

// A process is the daemon of a script.
type process struct {
	cmd  *exec.Cmd
	log  *os.File
	done chan error
}

type processKey struct{}

// cmdServe starts the daemon with arguments and waits until it is ready. With
// -powerless before them it has no capability over the network.
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("use: ! exec usher serve")
	}
	p := ts.Value(processKey{}).(*process)
	if p.cmd != nil {
		ts.Fatalf("the daemon is running")
	}
	path, err := exec.LookPath("usher")
	ts.Check(err)
	p.log, err = os.OpenFile(ts.MkAbs("daemon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	start := (*exec.Cmd).Start
	if len(args) > 0 && args[0] == "-powerless" {
		start, args = startPowerless, args[1:]
	}
	p.cmd = exec.Command(path, append([]string{"serve"}, args...)...)
	p.cmd.Env = environment(ts)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	ts.Check(start(p.cmd))
	p.done = make(chan error, 1)
	go func(cmd *exec.Cmd) { p.done <- cmd.Wait() }(p.cmd)
	ts.Defer(func() { p.end(os.Kill) })
	ready := func() bool {
		c, err := net.Dial("unix", ts.Getenv("USHER_API_SOCKET"))
		if err != nil {
			return false
		}
		defer c.Close()
		fmt.Fprint(c, "GET /readyz HTTP/1.0\r\n\r\n")
		var buf [64]byte
		n, _ := c.Read(buf[:])
		return strings.Contains(string(buf[:n]), " 200 ")
	}
	if !poll(func() bool {
		select {
		case err := <-p.done:
			p.cmd = nil
			ts.Fatalf("the daemon ended: %v\n%s", err, ts.ReadFile("daemon.log"))
		default:
		}
		return ready()
	}) {
		ts.Fatalf("the daemon does not become ready\n%s", ts.ReadFile("daemon.log"))
	}
}

func environment(ts *testscript.TestScript) []string {
	env := os.Environ()
	for _, name := range []string{"USHER_DATADIR", "USHER_SETUPDIR", "USHER_API_SOCKET", "USHER_SERVER", "USHER_NODENAME", "USHER_VIEWS", "USHER_PROXY_HEALTHZ", "HOME", "PATH", "TMPDIR"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// end sends sig and waits for the end.
func (p *process) end(sig os.Signal) error {
	if p.cmd == nil {
		return nil
	}
	p.cmd.Process.Signal(sig)
	err := <-p.done
	p.cmd = nil
	p.log.Close()
	return err
}

// cmdQuit ends the daemon as Ctrl-C does and checks that it ends well.
func cmdQuit(ts *testscript.TestScript, neg bool, args []string) {
	if err := ts.Value(processKey{}).(*process).end(os.Interrupt); err != nil {
		ts.Fatalf("the daemon ended with %v\n%s", err, ts.ReadFile("daemon.log"))
	}
}

// cmdCrash ends the daemon with SIGKILL.
func cmdCrash(ts *testscript.TestScript, neg bool, args []string) {
	ts.Value(processKey{}).(*process).end(os.Kill)
}
