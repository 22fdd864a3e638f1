package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// A process is a running program in a process group of its own, so that the
// terminal's Ctrl-C does not reach it before its Pod has turned terminating.
// Whatever it started and left behind ends with it.
type process struct {
	cmd      *exec.Cmd
	network  Network // nil: that of the agent
	outputs  []*output
	watchdog *watchdog
	dead     chan struct{} // closed once it has ended, whoever reads its output
	drained  chan struct{} // closed once its output has been passed on, after dead

	mu    sync.Mutex
	ended bool // guarded by mu; the id of the group is no longer ours
}

// startProcess starts command in dir, or in the agent's directory if that is
// empty, with its output going to stdout and stderr, which are flushed at its
// end. It reads nothing: its standard input is empty.
func startProcess(command []string, dir string, env []string, stdout, stderr io.Writer, watchdog *watchdog, network Network) (*process, error) {
	p := &process{
		cmd: exec.Command(command[0], command[1:]...), network: network, watchdog: watchdog,
		dead: make(chan struct{}), drained: make(chan struct{}),
	}
	p.cmd.Dir, p.cmd.Env = dir, env
	p.cmd.SysProcAttr = processAttributes()
	started := make(chan error)
	go p.run(stdout, stderr, started)
	return p, <-started
}

// run is the process's goroutine: it starts the program and waits for its end.
func (p *process) run(stdout, stderr io.Writer, started chan<- error) {
	defer close(p.drained)
	// On Linux the program dies with the thread that started it: the thread
	// must not end before.
	runtime.LockOSThread()
	if p.network == nil {
		defer runtime.UnlockOSThread()
	}
	err := p.start(stdout, stderr)
	started <- err
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	for _, o := range p.outputs {
		wg.Go(func() { o.pass(p.dead) })
	}
	p.wait()
	close(p.dead)
	for _, o := range p.outputs {
		o.hurry()
	}
	wg.Wait()
}

// start starts the program. The pipes are not left to exec.Cmd, whose Wait
// would not return before somebody has read what went through them.
func (p *process) start(stdout, stderr io.Writer) error {
	var passed [2]*os.File
	var err error
	for i, w := range []io.Writer{stdout, stderr} {
		if f, ok := w.(*os.File); ok {
			passed[i] = f
			continue
		}
		var o *output
		if o, passed[i], err = newOutput(w); err != nil {
			break
		}
		p.outputs = append(p.outputs, o)
		defer passed[i].Close()
	}
	if err == nil {
		p.cmd.Stdout, p.cmd.Stderr = passed[0], passed[1]
		if p.network != nil {
			err = p.network.Enter()
		}
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err == nil {
		p.watchdog.add(p.cmd.Process.Pid)
		return nil
	}
	for _, o := range p.outputs {
		o.r.Close()
	}
	return err
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
	p.watchdog.remove(p.cmd.Process.Pid)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
}

// status returns how the process ended as a shell says it: its exit code, or
// 128 and the signal that ended it. dead must be closed.
func (p *process) status() (code int, sig syscall.Signal) {
	state := p.cmd.ProcessState
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), ws.Signal()
	}
	return state.ExitCode(), 0
}

// lookCommand looks for the program of a command that is to run in dir, so that
// a slip in its name is found before anything has been created.
func lookCommand(name, dir string) error {
	if dir != "" {
		if info, err := os.Stat(dir); err != nil {
			return err
		} else if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
	}
	path := name
	if strings.ContainsRune(name, '/') && !filepath.IsAbs(name) {
		path = filepath.Join(dir, name)
		if !strings.ContainsRune(path, '/') { // Join has cleaned "./" away
			path = name
		}
	}
	_, err := exec.LookPath(path)
	switch {
	case errors.Is(err, exec.ErrDot):
		return fmt.Errorf("%s is in the current directory only: write ./%s", name, name)
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: command not found", name)
	}
	return err
}
