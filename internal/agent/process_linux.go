package agent

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// processAttributes puts a process into a group of its own and lets the kernel
// end it when the agent dies, however that happens.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// wait waits for the end of the process. The rest of its group is ended while
// the id is still taken by the dead leader, so that nobody else is hit.
func (p *process) wait() {
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.end()
	_ = p.cmd.Wait() // its result is in ProcessState
}
