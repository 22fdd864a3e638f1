package netenv

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Stage2Command is the hidden command, the first argument of this program,
// that has to call Stage2 with the arguments after it.
const Stage2Command = "exec-stage2"

// A report is what stage 2 says when the program did not run.
type report struct {
	Code  int
	Error string
	SetUp bool // the namespace is at fault
}

// execChild runs the program in a child in namespaces of its own. The child
// starts as stage 2 of this program.
func (p *plan) execChild(env []string) (code int, err error) {
	// The descriptor is passed on under its number: those that the program
	// inherits from the shell stay as they are.
	var fds [2]int
	if err := unix.Pipe2(fds[:], 0); err != nil {
		return exitError, fmt.Errorf("open a pipe: %w", err)
	}
	unix.CloseOnExec(fds[0])
	reports := os.NewFile(uintptr(fds[0]), "report")
	defer reports.Close()
	p.Report, p.Parent, p.Group = fds[1], os.Getpid(), unix.Getpgrp()
	cmd, err := p.stage2(env)
	if err != nil {
		unix.Close(fds[1])
		return exitError, err
	}

	runtime.LockOSThread() // Pdeathsig is about the thread that started the child
	defer runtime.UnlockOSThread()
	signals := NotifyForwarded()
	err = cmd.Start()
	unix.Close(fds[1])
	if err != nil {
		signal.Stop(signals)
		return exitError, fmt.Errorf("make a user namespace: %w", forbidden(errors.Unwrap(err)))
	}
	var wg sync.WaitGroup
	wg.Go(func() { Forward(signals, cmd.Process) })
	said, readErr := io.ReadAll(reports) // to its end, when stage 2 has become the program
	_ = cmd.Wait()                       // its result is in ProcessState
	signal.Stop(signals)
	close(signals)
	wg.Wait()

	if readErr != nil {
		return exitError, fmt.Errorf("read the report of stage 2: %w", readErr)
	}
	if len(said) > 0 {
		return failure(said)
	}
	return exitCodeOf(cmd), nil
}

// NotifyForwarded returns the signals to be passed on to a program that is about
// to be started (see Forward). The caller must call signal.Stop.
func NotifyForwarded() chan os.Signal {
	signals := make(chan os.Signal, 16) // room for what comes before the program is there
	for _, s := range forwarded {
		if !signal.Ignored(s) { // as nohup does; the program inherits it
			signal.Notify(signals, s)
		}
	}
	return signals
}

// stage2 returns the command of the child. Its uid and gid are the same inside
// as outside, so that programs which refuse to be root run; the capability is
// ambient, since an ordinary user would lose it by execve(2).
func (p *plan) stage2(env []string) (*exec.Cmd, error) {
	encoded, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode the plan: %w", err)
	}
	cmd := exec.Command("/proc/self/exe", append([]string{Stage2Command, string(encoded)}, p.Args...)...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	uid, gid := os.Geteuid(), os.Getegid()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN},
		Pdeathsig:   syscall.SIGKILL,
	}
	if p.Private != nil {
		isolate(cmd.SysProcAttr, p.Privileged)
	}
	return cmd, nil
}

// failure turns the report of stage 2 into the result of Exec.
func failure(said []byte) (code int, err error) {
	var r report
	if err := json.Unmarshal(said, &r); err != nil {
		return exitError, fmt.Errorf("read the report of stage 2: %w", err)
	}
	err = errors.New(r.Error)
	if r.SetUp {
		err = forbidden(err)
	}
	return r.Code, err
}

// Stage2 carries out the plan in its arguments and becomes the program, with
// no capability left, or the parent of one in a network namespace of its own. It
// returns the exit code of that, or of what went wrong, having told stage 1: the
// process should exit with the code and say nothing.
func Stage2(args []string) (code int) {
	var p plan
	if len(args) < 2 || json.Unmarshal([]byte(args[0]), &p) != nil {
		return exitError
	}
	p.Args = args[1:]
	unix.CloseOnExec(p.Report)
	reports := os.NewFile(uintptr(p.Report), "report")
	defer reports.Close()

	var err error
	if p.Private != nil {
		if code, err = p.serve(func() { reports.Close() }); err == nil {
			return code
		}
	} else {
		err = p.become()
	}
	r := report{Code: ExitCode(err), Error: err.Error(), SetUp: errors.As(err, new(setUpError))}
	_ = json.NewEncoder(reports).Encode(r) // nobody is left to be told
	return r.Code
}

func (p *plan) become() error {
	runtime.LockOSThread() // capabilities belong to a thread, and exec keeps those of the caller
	if err := p.mount(); err != nil {
		return setUpError{err}
	}
	if err := dropCapabilities(); err != nil {
		return setUpError{err}
	}
	if err := p.dieWithParent(); err != nil {
		return setUpError{err}
	}
	return p.exec(os.Environ())
}

// dropCapabilities takes them from the calling thread, and from what it starts.
func dropCapabilities() error {
	var none [2]unix.CapUserData
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capset(header, &none[0]); err != nil { // takes the ambient ones along
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// dieWithParent lets the program end with stage 1. The signal that it was
// started with belongs to its first thread, which need not be the one that
// becomes the program.
func (p *plan) dieWithParent() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("ask for a signal at the end of usher: %w", err)
	}
	if unix.Getppid() != p.Parent { // it ended before we asked
		return errors.New("run a program: usher has ended")
	}
	return nil
}

// forwarded are the signals that are passed on to the program.
var forwarded = []os.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
}

// Forward passes signals on until the channel is closed. The program is in our
// process group: it got Ctrl-C and Ctrl-\ from the terminal itself, and should
// not get them twice. (The same signal from kill(1), to a process that has the
// terminal, cannot be told from that, and is not passed on.)
func Forward(signals <-chan os.Signal, to *os.Process) {
	for s := range signals {
		if (s == unix.SIGINT || s == unix.SIGQUIT) && foreground() {
			continue
		}
		_ = to.Signal(s) // it may have ended
	}
}

// foreground reports whether our process group has the terminal.
func foreground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false // there is none
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// restrictions are the sysctls that keep ordinary users from making a
// namespace, with the value that does and one that does not.
var restrictions = []struct{ name, forbids, allows string }{
	{"kernel.apparmor_restrict_unprivileged_userns", "1", "0"}, // Ubuntu since 23.10
	{"kernel.unprivileged_userns_clone", "0", "1"},             // Debian
	{"user.max_user_namespaces", "0", "10000"},
}

// forbidden adds to an error why this system does not allow the namespace, and
// what to do.
func forbidden(err error) error {
	for _, r := range restrictions {
		value, readErr := os.ReadFile("/proc/sys/" + strings.ReplaceAll(r.name, ".", "/"))
		if readErr == nil && strings.TrimSpace(string(value)) == r.forbids {
			return fmt.Errorf("%w: %s=%s keeps ordinary users from it: `sudo sysctl -w %s=%s` allows it, and so does running this with sudo",
				err, r.name, r.forbids, r.name, r.allows)
		}
	}
	return fmt.Errorf("%w: something keeps ordinary users from it, such as the seccomp profile of a container: run this with sudo, or give the container SYS_ADMIN", err)
}
