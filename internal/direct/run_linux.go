//go:build amd64 || arm64

package direct

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"usher/internal/netenv"
)

// Probe returns why Run cannot work here, or nil. The error is ErrNested if
// that is because it runs already.
func Probe() error {
	if v, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil && strings.TrimSpace(string(v)) > "1" && !netenv.Capable(unix.CAP_SYS_PTRACE) {
		return fmt.Errorf("look into programs: kernel.yama.ptrace_scope=%s keeps ordinary users from it", strings.TrimSpace(string(v)))
	}
	result := make(chan error)
	go func() { // the thread ends with the goroutine, and the filter with it
		runtime.LockOSThread()
		result <- probeThread()
	}()
	return <-result
}

// probeThread tries what Run does, on a thread of its own.
func probeThread() error {
	fd, err := install(program(false))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("open a process: %w", err)
	}
	defer unix.Close(pidfd)
	duplicate, err := unix.PidfdGetfd(pidfd, pidfd, 0)
	if err != nil {
		return fmt.Errorf("duplicate a descriptor of a process: %w: the seccomp profile of a container may be why", err)
	}
	unix.Close(duplicate)
	b := [1]byte{1}
	local := []unix.Iovec{{Base: &b[0], Len: 1}}
	if _, err := unix.ProcessVMReadv(os.Getpid(), local, nil, 0); err != nil {
		return fmt.Errorf("read the memory of a process: %w: the seccomp profile of a container may be why", err)
	}
	return nil
}

const exitError = 1

// Run runs a program that sees Services: args are the program and its
// arguments, and a name without a slash is looked for in PATH. Of a variable
// that is twice in env the last value counts. The program is a child of this
// process; Run passes signals on, and returns the program's exit code, or 128
// plus the signal that ended it, once everything that it started has ended
// too: without us that would reach nothing any more.
//
// Run needs the process for itself: the caller should be about to exit, and
// not act on signals.
//
// The error says why the program did not run. The code is then that of shells:
// 127 if it was not found, 126 if it cannot be executed, otherwise 1.
func Run(o Options, args, env []string) (code int, err error) {
	if len(args) == 0 {
		return exitError, errors.New("run a program: none is given")
	}
	path, err := exec.LookPath(args[0])
	if err != nil && !errors.Is(err, exec.ErrDot) { // somebody has . in PATH
		return netenv.ExitCode(err), err
	}
	t, err := begin(o)
	if err != nil {
		return exitError, err
	}
	defer t.Close()
	t.running.Go(t.complain)
	if why := withoutPrivileges(path); why != "" {
		t.say(why)
	}
	// Whoever loses their parent becomes our child, and stays our descendant,
	// whom we may look into where only ancestors may (Yama).
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return exitError, fmt.Errorf("adopt what the program leaves: %w", err)
	}
	f := &family{Translator: t, path: path, args: args, env: netenv.Environ(env)}
	return f.run()
}

// A family is the program and all that it starts.
type family struct {
	*Translator
	path      string
	args, env []string

	started chan startResult
	ended   chan int      // the program's exit code
	gone    chan struct{} // closed when nobody is left
}

type startResult struct {
	process *os.Process
	err     error
}

func (f *family) run() (code int, err error) {
	f.started, f.ended, f.gone = make(chan startResult, 1), make(chan int, 1), make(chan struct{})
	signals := netenv.NotifyForwarded()
	defer signal.Stop(signals)
	go f.lead()
	start := <-f.started
	if start.err != nil {
		return netenv.ExitCode(start.err), start.err
	}
	forwarded := make(chan os.Signal)
	var wg sync.WaitGroup
	wg.Go(func() { netenv.Forward(forwarded, start.process) })
	for running := true; running; {
		select {
		case s := <-signals:
			forwarded <- s
		case code = <-f.ended:
			running = false
		}
	}
	close(forwarded)
	wg.Wait()
	f.linger(signals)
	return code, nil
}

// lingering is how long the program's own children may take to end after it
// without a word about that.
const lingering = 500 * time.Millisecond

// linger waits until all that the program left has ended. A signal ends that:
// nobody is left to pass it on to.
func (f *family) linger(signals <-chan os.Signal) {
	timer := time.NewTimer(lingering)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			f.say("the program has ended and has left others in the background: usher stays for them (Ctrl-C ends it, and then they reach nothing)")
		case <-signals:
			return
		case <-f.gone:
			return
		}
	}
}

// lead is a thread that is under the filter itself: what it starts is, too. It
// does nothing that the filter asks about. As the parent of the program it
// has to live as long (Pdeathsig), and it ends with its goroutine.
func (f *family) lead() {
	runtime.LockOSThread()
	if err := f.Program(netip.Addr{}).Enter(); err != nil {
		f.started <- startResult{err: err}
		return
	}
	process, err := os.StartProcess(f.path, f.args, &os.ProcAttr{
		Env: f.env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		err = fmt.Errorf("exec %s: %w", f.path, pe.Err)
	}
	f.started <- startResult{process, err}
	if err == nil {
		f.reap(process.Pid)
	}
}

// reap waits for the program, and for all others.
func (f *family) reap(program int) {
	defer close(f.gone)
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.ECHILD) {
			return
		}
		if err != nil || pid != program {
			continue
		}
		f.ended <- netenv.ExitStatus(syscall.WaitStatus(status))
	}
}
