package netenv

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exec runs a program where the names resolve. With CAP_SYS_ADMIN, and without
// Options.Private, the program takes the place of this process and Exec does not
// return: exit code, signals and terminal are the program's own. Otherwise the
// program is a child; Exec passes signals on, waits, and returns the exit code of
// the child, or 128 plus the signal that ended it. Without the privilege the child
// is in a user namespace in which its uid and gid are the same as outside, and
// programs that change their uid, as sudo, do not work in there.
//
// Exec needs the process for itself: the caller should be about to exit, and
// not act on signals. SIGHUP and SIGINT stay ignored where they are; of other
// signals the Go runtime does not keep whether they were.
//
// The error says why the program did not run. The code is then that of shells:
// 127 if it was not found, 126 if it cannot be executed, otherwise 1.
func Exec(o Options) (code int, err error) {
	if len(o.Args) == 0 {
		return exitError, errors.New("run a program: none is given")
	}
	program, err := exec.LookPath(o.Args[0])
	if err != nil && !errors.Is(err, exec.ErrDot) { // somebody has . in PATH
		return ExitCode(err), err
	}
	p, err := newPlan(o, program)
	if err != nil {
		return exitError, err
	}
	if o.Private == nil && p.Privileged {
		err = p.execHere(o.environ())
		return ExitCode(err), err
	}
	return p.execChild(o.environ())
}

// execHere makes the program out of this process. It only returns if that
// goes wrong; the thread is then of no use any more.
func (p *plan) execHere(env []string) error {
	runtime.LockOSThread() // namespaces belong to a thread
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return setUpError{fmt.Errorf("make a mount namespace: %w", err)}
	}
	if err := p.mount(); err != nil {
		return setUpError{err}
	}
	return p.exec(env)
}

// exec makes the program out of the calling thread's process.
func (p *plan) exec(env []string) error {
	return fmt.Errorf("exec %s: %w", p.Program, syscall.Exec(p.Program, p.Args, env))
}

// Capable reports whether this process has all of some capabilities. With
// CAP_SYS_ADMIN it may make a mount namespace and a network namespace, and with
// CAP_NET_ADMIN change the latter.
func Capable(capabilities ...int) bool {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(header, &data[0]); err != nil {
		return false
	}
	return !slices.ContainsFunc(capabilities, func(c int) bool { return data[c/32].Effective&(1<<(c%32)) == 0 })
}
