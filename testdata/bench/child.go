//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A child is a process that a run started. It ends with this one, however this
// one ends: all children are started by the first thread.
type child struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// startChild starts a program whose words go to a file in the run's directory.
func startChild(name string, env []string, program string, args ...string) (*child, error) {
	c := &child{log: filepath.Join(os.Getenv(directoryEnv), name+".log"), done: make(chan struct{})}
	log, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c.cmd = exec.Command(program, args...)
	c.cmd.Env = append(cleanEnv(), env...)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	// Not SIGKILL: nginx would not take its workers along.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		c.cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

// cleanEnv is the environment without what would configure usher.
func cleanEnv() []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "USHER_") {
			env = append(env, pair)
		}
	}
	return env
}

// ended reports whether the process is gone.
func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// stop ends the process: in order if it does so within a few seconds.
func (c *child) stop() {
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		c.cmd.Process.Signal(signal)
		select {
		case <-c.done:
			return
		case <-time.After(3 * time.Second):
		}
	}
}

// words returns the last of what the process said.
func (c *child) words() string {
	const most = 2000
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-most):]))
}

func (c *child) pid() int { return c.cmd.Process.Pid }
