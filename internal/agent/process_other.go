//go:build !linux

package agent

import "syscall"

// processAttributes puts a process into a group of its own. Nothing here ends
// it with an agent that is killed.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// wait waits for the end of the process and ends the rest of its group.
func (p *process) wait() {
	_ = p.cmd.Wait() // its result is in ProcessState
	p.end()
}
