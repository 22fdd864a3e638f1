package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"go.uber.org/goleak"
)

// The test binary is also the program that the agent runs in tests: its
// arguments say what to do.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "program" {
		os.Exit(programs[os.Args[2]](os.Args[3:]))
	}
	goleak.VerifyTestMain(m)
}

// program returns the command of one of the programs below.
func program(args ...string) []string {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return append([]string{exe, "program"}, args...)
}

var programs = map[string]func(args []string) int{
	// serve accepts connections until SIGTERM, or just one.
	"serve": func(args []string) int {
		ln, err := net.Listen("tcp", address())
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("listening on", ln.Addr())
		terminated := make(chan os.Signal, 1)
		signal.Notify(terminated, syscall.SIGTERM)
		go func() {
			<-terminated
			fmt.Println("got SIGTERM")
			if len(args) > 0 {
				os.Exit(0)
			}
			ln.Close()
		}()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return 0
			}
			conn.Close()
			if len(args) > 0 {
				ln.Close()
				return linger()
			}
		}
	},
	// everywhere serves on every address, as a program does that does not look
	// at HOST. Where another one does already it waits.
	"everywhere": func([]string) int {
		ln, err := net.Listen("tcp", ":"+os.Getenv("PORT"))
		if err != nil {
			fmt.Println("idle")
			return linger()
		}
		fmt.Println("listening on", ln.Addr())
		for {
			conn, err := ln.Accept()
			if err != nil {
				return 1
			}
			conn.Close()
		}
	},
	// stubborn does not listen to SIGTERM.
	"stubborn": func([]string) int {
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		fmt.Println("stubborn")
		return linger()
	},
	// idle ends by SIGTERM, as programs do that know nothing of it.
	"idle": func([]string) int {
		fmt.Println("idle")
		_, _ = io.Copy(io.Discard, os.Stdin) // empty
		return linger()
	},
	// jvm exits upon SIGTERM with the code that says so.
	"jvm": func([]string) int {
		terminated := make(chan os.Signal, 1)
		signal.Notify(terminated, syscall.SIGTERM)
		fmt.Println("jvm")
		<-terminated
		return 128 + int(syscall.SIGTERM)
	},
	// chatty writes to both of its outputs as fast as they take it.
	"chatty": func(args []string) int {
		go func() {
			for {
				fmt.Println("chat")
			}
		}()
		for {
			fmt.Fprintln(os.Stderr, "chat")
		}
	},
	// pages writes what a pipe holds and ends.
	"pages": func([]string) int {
		fmt.Print(strings.Repeat("page\n", pages))
		return 0
	},
	// exit ends with a code.
	"exit": func(args []string) int {
		code, _ := strconv.Atoi(args[0])
		return code
	},
	// die ends by a signal.
	"die": func([]string) int {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		return linger()
	},
	// env prints its environment.
	"env": func([]string) int {
		for _, kv := range os.Environ() {
			fmt.Println("env", kv)
		}
		return 0
	},
	// parent starts a server that outlives it and has its output. It ends when
	// the server listens.
	"parent": func(args []string) int {
		cmd := exec.Command(os.Args[0], append([]string{"program"}, args...)...)
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			return 1
		}
		for range 100 {
			if conn, err := net.Dial("tcp", address()); err == nil {
				conn.Close()
				return 0
			}
			<-time.After(50 * time.Millisecond)
		}
		return 1
	},
	// pid leaves its pid in a directory, in a file with the name of its Pod, and
	// becomes another program.
	"pid": func(args []string) int {
		if err := os.WriteFile(filepath.Join(args[0], os.Getenv("POD_NAME")), fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println(syscall.Exec(os.Args[0], program(args[1:]...), os.Environ()))
		return 1
	},
	// family runs another program in a child, as a shell or npm does.
	"family": func(args []string) int {
		cmd := exec.Command(os.Args[0], append([]string{"program"}, args...)...)
		cmd.Stdout = os.Stdout
		_ = cmd.Run()
		return 0
	},
	// watchdog is that of an agent.
	"watchdog": func([]string) int {
		if err := RunWatchdog(os.Stdin); err != nil {
			return 1
		}
		return 0
	},
	// runner is an agent that runs another program.
	"runner": func(args []string) int {
		a := &Agent{
			API: newFakeAPI(), Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ(), Watchdog: program("watchdog"),
		}
		w := Workload{Name: "payment", Namespace: "finance", Replicas: 1, Command: program(args...)}
		code, err := a.Run(context.Background(), w)
		if err != nil {
			fmt.Println(err)
		}
		return code
	},
}

// pages is how many lines of 5 bytes the program of that name writes.
const pages = (64 << 10) / 5

// address is where a program is to listen.
func address() string { return net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT")) }

// linger runs for longer than any test.
func linger() int {
	<-time.After(time.Minute)
	return 1
}

// tcpPort is a port that nothing has on the addresses of the test's Pods.
func tcpPort(t *testing.T) corev1.ContainerPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return corev1.ContainerPort{ContainerPort: int32(ln.Addr().(*net.TCPAddr).Port), Protocol: corev1.ProtocolTCP}
}
