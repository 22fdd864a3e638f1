package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// outputDelay is how long the output of a process is read on after its end:
// something that left its process group may hold the other end for ever.
const outputDelay = time.Second

// A process is a running program in a process group of its own, so that the
// terminal's Ctrl-C does not reach it before its Pod has turned terminating.
// Whatever it started and left behind ends with it.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once it has ended and its output has been read

	mu    sync.Mutex
	ended bool // guarded by mu; the id of the group is no longer ours
}

// startProcess starts command with its output going to stdout and stderr. It
// reads nothing: its standard input is empty.
func startProcess(command, env []string, stdout, stderr io.Writer) (*process, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = processAttributes()
	cmd.WaitDelay = outputDelay
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	return p, <-started
}

// run is the process's goroutine: it starts the program and waits for its end.
func (p *process) run(started chan<- error) {
	defer close(p.done)
	// On Linux the program dies with the thread that started it: the thread
	// must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.wait()
}

// signal sends sig to the whole process group. A group that has ended gets
// nothing.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		_ = syscall.Kill(-p.cmd.Process.Pid, sig)
	}
}

// end ends what is left of the process group. Its id may belong to somebody
// else from then on.
func (p *process) end() {
	p.signal(syscall.SIGKILL)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
}

// status returns how the process ended as a shell says it: its exit code, or
// 128 and the signal that ended it. done must be closed.
func (p *process) status() (code int, sig syscall.Signal) {
	state := p.cmd.ProcessState
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), ws.Signal()
	}
	return state.ExitCode(), 0
}

// lookCommand looks for the program of a command, so that a slip in its name
// is found before anything has been created.
func lookCommand(name string) error {
	_, err := exec.LookPath(name)
	switch {
	case errors.Is(err, exec.ErrDot):
		return fmt.Errorf("%s is in the current directory only: write ./%s", name, name)
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: command not found", name)
	}
	return err
}
