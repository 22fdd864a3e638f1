//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// directoryEnv has the directory of a run, and says that this process is in
// the namespace.
const directoryEnv = "USHER_BENCH_DIR"

func isolated() bool { return os.Getenv(directoryEnv) != "" }

// runIsolated runs this program again in a network namespace of its own, and
// removes what it leaves behind.
func runIsolated(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "usher-bench.")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), directoryEnv+"="+dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("run the benchmark: %w", err)
	}
	return nil
}

// sysctls make room for many connections that are open at once, or were lately.
var sysctls = map[string]string{
	"net/ipv4/ip_local_port_range": "1024 65535",
	"net/ipv4/tcp_max_syn_backlog": "16384",
	"net/core/somaxconn":           "16384",
}

// settle prepares the namespace, and this process for many descriptors.
func settle() error {
	if err := bringUp("lo"); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	for name, value := range sysctls {
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
			fmt.Fprintf(os.Stderr, "bench: set %s: %v\n", name, err)
		}
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	// Children get this one. Go raises it for a program of its own only.
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

func bringUp(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// descriptors returns how many files a process may have open, as far as it
// matters here.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, 20000))
}
