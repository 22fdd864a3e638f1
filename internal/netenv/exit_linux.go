package netenv

import (
	"errors"
	"io/fs"
	"os/exec"
	"syscall"
)

// Exit codes of a program that did not run, as shells have them.
const (
	exitError         = 1
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // plus the signal that ended the program
)

// ExitCode returns the exit code for an error on the way to a program.
func ExitCode(err error) int {
	switch {
	case errors.As(err, new(setUpError)):
		return exitError
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return exitNotFound
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC), errors.Is(err, syscall.EISDIR):
		return exitNotExecutable
	}
	return exitError
}

// ExitStatus returns the exit code of a program that has ended, as shells have it.
func ExitStatus(status syscall.WaitStatus) int {
	if status.Signaled() {
		return exitSignal + int(status.Signal())
	}
	return status.ExitStatus()
}

func exitCodeOf(cmd *exec.Cmd) int {
	return ExitStatus(cmd.ProcessState.Sys().(syscall.WaitStatus))
}

// A setUpError is about the namespace and not about the program.
type setUpError struct{ error }

func (e setUpError) Unwrap() error { return e.error }
